"""Other backends beside Sentry: OpenTelemetry's own exporters, scrubbed, each with its own rate, queue and breaker.

``otlp`` reads OpenTelemetry's variables (``OTEL_EXPORTER_OTLP_*``). A further one, ``otlp/<name>``, reads
``OTEL_SENTRY_OTLP_<NAME>_*`` in their place (``..._ENDPOINT``, ``..._HEADERS``, ``..._PROTOCOL``, ...), and nothing of
the first one's, so that no key meant for one backend reaches another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_sentry import guard, parse
from otel_sentry.backends.outlet import Outlet

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from otel_sentry.settings import Settings

#: Short names in `OTEL_TRACES_EXPORTER` and its like, and the entry points they stand for: HTTP, unless gRPC is set.
_ALIASES = {"otlp": ("otlp_proto_http", "otlp_proto_grpc")}
_OTLP = ("otlp", "otlp_proto_http", "otlp_proto_grpc")
_THEIRS = ("OTEL_EXPORTER_OTLP_", "OTEL_PYTHON_EXPORTER_OTLP_")
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"


def outlets(names: Iterable[str], settings: Settings, signal: str = "traces") -> list[Outlet]:
    """Make the exporters with these names; one that can't be made is named once and left out.

    *signal*: "traces", "logs" or "metrics".
    """
    from importlib.metadata import entry_points

    installed = {one.name: one for one in entry_points(group=f"opentelemetry_{signal}_exporter")}
    made: list[Outlet] = []
    for name in names:
        kind = name.partition("/")[0]
        if "/" in name and not _has_endpoint(name):
            guard.say(f"OTEL_{signal.upper()}_EXPORTER={name}: set {_prefix(name)}ENDPOINT; it is left out")
            continue
        with guard.block(f"exporter {name}"), _environment(_wanted(name, settings)):
            entry_point = next((installed[one] for one in _candidates(kind, signal) if one in installed), None)
            if entry_point is None:
                advice = _advice(kind, signal)
                guard.say(f"OTEL_{signal.upper()}_EXPORTER={name}: no such exporter is installed; {advice}")
                continue
            again = _maker(entry_point, _wanted(name, settings)) if kind in _OTLP else None
            made.append(Outlet(name, signal, entry_point.load()(), again))
    return made


def _maker(entry_point: EntryPoint, environment: dict[str, str]) -> Callable[[], Any]:
    """Makes the same exporter once more, whatever has become of the environment."""

    def make() -> Any:
        with _environment(environment):
            return entry_point.load()()

    return make


def rate_of(name: str, settings: Settings) -> float:
    """The share of the traces that exporter *name* gets: OTLP's by setting, any other's all."""
    if name.partition("/")[0] not in _OTLP:
        return 1.0
    text = os.environ.get(f"{_prefix(name)}SAMPLE_RATE", "").strip() if "/" in name else ""
    if not text:
        return settings.otlp_sample_rate
    try:
        return parse.rate(text)
    except ValueError as exc:
        line = f"{_prefix(name)}SAMPLE_RATE={text!r:.40}: {exc}; OTEL_SENTRY_OTLP_SAMPLE_RATE holds"
        guard.say_once(f"rate:{name}", line)
        return settings.otlp_sample_rate


def _prefix(name: str) -> str:
    return f"OTEL_SENTRY_OTLP_{name.partition('/')[2].upper().replace('-', '_')}_"


def _has_endpoint(name: str) -> bool:
    prefix = _prefix(name)
    return any(key.startswith(prefix) and key.endswith("ENDPOINT") for key in os.environ)


def _theirs() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith(_THEIRS)}


def _wanted(name: str, settings: Settings) -> dict[str, str]:
    """What of OpenTelemetry's variables an exporter is to find: a named one its own, and no other's."""
    wanted = _theirs()
    if "/" in name:
        prefix = _prefix(name)
        own = {key[len(prefix) :]: value for key, value in os.environ.items() if key.startswith(prefix)}
        wanted = {f"{_THEIRS[0]}{key}": value for key, value in own.items()}
    if settings.preset == "datadog":  # its metrics are deltas; cumulative ones lose their first point
        wanted = {_TEMPORALITY: "delta", **wanted}
    return wanted


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Exporters read the environment while they are made."""
    kept = _theirs()
    if wanted == kept:
        yield
        return
    try:
        _replace(kept, wanted)
        yield
    finally:
        _replace(wanted, kept)


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    for key in old:
        os.environ.pop(key, None)
    os.environ.update(new)


def _candidates(kind: str, signal: str) -> Sequence[str]:
    return ("otlp_proto_grpc",) if kind == "otlp" and _wants_grpc(signal) else _ALIASES.get(kind, (kind,))


def _wants_grpc(signal: str) -> bool:
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", ""
    )
    return protocol.strip().lower().startswith("grpc")


def _advice(kind: str, signal: str) -> str:
    if kind == "otlp":
        return f"pip install 'otel-sentry[{'grpc' if _wants_grpc(signal) else 'otlp'}]'"
    return "it is left out"
