"""Bounded labels, per process: past `MAX_VALUES` values of a label, or `MAX_SERIES` combinations of a metric, the rest
is ``other``, and one line says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_sentry import guard

#: Names of metrics in one process.
MAX_NAMES = 200
#: Values of one label of one metric.
MAX_VALUES = 100
#: Combinations of label values of one metric.
MAX_SERIES = 1000
#: Labels of one measurement, and characters of a value.
_MAX_LABELS = 10
_MAX_TEXT = 100
#: Characters that are scrubbed before it is cut to these: half a secret is not recognised.
_MAX_READ = 1000

OTHER = "other"

#: Metric -> label -> value as given -> as it is sent.
_values: dict[str, dict[str, dict[str, str]]] = {}
#: Metric -> the combinations that exist.
_series: dict[str, set[tuple[tuple[str, str], ...]]] = {}


def bounded(name: str, labels: Mapping[str, Any]) -> dict[str, str] | None:
    """*labels* as they are sent: text, scrubbed, few. None: one metric too many."""
    known = _values.get(name)
    if known is None:
        if len(_values) >= MAX_NAMES:
            guard.say_once("metric names", f"more than {MAX_NAMES} names of metrics; {name[:100]} is left out")
            return None
        known = _values.setdefault(name, {})
    found = {key: _value(name, known, key, _text(given)) for key, given in labels.items() if given is not None}
    series = _series.setdefault(name, set())
    key = tuple(found.items())
    if key not in series:
        if len(series) >= MAX_SERIES:
            guard.say_once(f"series:{name}", f"more than {MAX_SERIES} series of {name}; further ones are '{OTHER}'")
            return dict.fromkeys(found, OTHER)
        series.add(key)
    return found


def _value(name: str, known: dict[str, dict[str, str]], label: str, text: str) -> str:
    values = known.get(label)
    if values is None:
        if len(known) >= _MAX_LABELS:
            return OTHER
        values = known.setdefault(label, {})
    clean = values.get(text)
    if clean is None:
        if len(values) >= MAX_VALUES:
            guard.say_once(
                f"values:{name}:{label}",
                f"more than {MAX_VALUES} values of the label {label} of {name}; further ones are '{OTHER}'",
            )
            return OTHER
        from otel_sentry.privacy import scrub  # at the first value, and not at start-up

        clean = values[text] = str(scrub({label: text}, pii=False).get(label, OTHER))[:_MAX_TEXT]
    return clean


def _text(value: Any) -> str:
    if type(value) is str:
        return value[:_MAX_READ]
    if type(value) is bool:
        return "true" if value else "false"
    from otel_sentry.logs import value_of  # rarely needed, and not at start-up

    return str(value_of(value))[:_MAX_READ]


def reset() -> None:
    """Forget all names and values (tests)."""
    _values.clear()
    _series.clear()
