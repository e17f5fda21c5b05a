"""Measurements as Sentry's metric items (decision 28): what a business call records, with the trace it happened in."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import get_current_span

from otel_sentry import counters, guard, runtime
from otel_sentry.logs import size_of, value_of
from otel_sentry.privacy import scrub
from otel_sentry.runtime import Runtime
from otel_sentry.sentry.batch import METRIC, Batcher, attributes_of, common_attributes, trace_ids

#: Attributes of one measurement; the rest is left out.
_MAX_ATTRIBUTES = 50
#: UCUM -> Sentry's names of units; others go as they are, annotations (`{request}`) are no unit.
_UNITS = {
    "ns": "nanosecond", "us": "microsecond", "ms": "millisecond", "s": "second", "min": "minute", "h": "hour",
    "d": "day", "bit": "bit", "By": "byte", "kBy": "kilobyte", "MBy": "megabyte", "KiBy": "kibibyte",
    "MiBy": "mebibyte", "1": "ratio", "%": "percent",
}  # fmt: skip


@dataclass(slots=True)
class Measurement:
    """One value of one metric."""

    at: float  # seconds since the epoch
    name: str
    kind: str  # "counter", "gauge" or "distribution"
    value: float
    unit: str | None
    attributes: dict[str, Any]
    trace_id: int
    span_id: int
    size: int


@guard.call("metric")
def record(
    name: str, kind: str, value: float, unit: str | None = None, attributes: Mapping[str, Any] | None = None
) -> None:
    """Send one measurement to Sentry, joined to the current span; nothing with ``OTEL_SENTRY_METRICS=off``.

    Args:
        name: of the metric, e.g. ``funnel.step``.
        kind: "counter" (what is added), "gauge" (what is now) or "distribution".
        value: the number.
        unit: Sentry's word for it, e.g. "second", "byte"; None: a plain number.
        attributes: what to group by; few values each.

    """
    current = runtime.get()
    if current is None or current.sender is None or current.settings.metrics == "off":
        return
    span_context = get_current_span().get_span_context()
    put(name, kind, value, unit, attributes, span_context.trace_id, span_context.span_id)


def put(
    name: str,
    kind: str,
    value: float,
    unit: str | None,
    attributes: Mapping[str, Any] | None,
    trace_id: int = 0,
    span_id: int = 0,
    at: float | None = None,
) -> None:
    """Queue a measurement. *at*: seconds since the epoch (default: now); ids of 0: outside of a span."""
    value = float(value)
    if not math.isfinite(value):  # JSON has no word for it
        counters.lost("internal_sdk_error", METRIC.category)
        return
    plain = {str(key): value_of(item) for key, item in list((attributes or {}).items())[:_MAX_ATTRIBUTES]}
    moment = time.time() if at is None else at
    batcher.add(Measurement(moment, name, kind, value, unit, plain, trace_id, span_id, 300 + size_of(plain)))


def _prepare(taken: Measurement, current: Runtime) -> dict[str, Any]:
    """The measurement scrubbed, in the shape that sentry-sdk gives to ``before_send_metric``."""
    pii = current.settings.send_default_pii
    return {
        "timestamp": taken.at,
        "trace_id": None,
        "span_id": None,
        **trace_ids(taken.trace_id, taken.span_id),
        "name": taken.name,
        "type": taken.kind,
        "value": taken.value,
        "unit": taken.unit,
        "attributes": {**scrub(taken.attributes, pii=pii), **common_attributes(current)},
    }


def _on_wire(metric: dict[str, Any]) -> dict[str, Any]:
    item = {key: metric[key] for key in ("timestamp", "name", "type", "value")}
    item["attributes"] = attributes_of(metric["attributes"])
    item.update({key: metric[key] for key in ("trace_id", "span_id", "unit") if metric.get(key)})
    return item


def unit_of(ucum: str | None) -> str | None:
    """Sentry's word for a unit as OpenTelemetry writes it; None for a plain number."""
    if not ucum or ucum.startswith("{"):
        return None
    return _UNITS.get(ucum, ucum)


batcher = Batcher(METRIC, _prepare, _on_wire)
