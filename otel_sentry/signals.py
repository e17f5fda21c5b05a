"""Logs and metrics beside traces: what is on, where it goes, and its flush. Nothing is created that nobody asked for.

Records come from the hook on `logging.Logger.callHandlers` (`otel_sentry.sentry.hooks`): no handler of ours is on the
root logger. Metrics of business calls go straight to Sentry (`otel_sentry.sentry.metrics_v2.record`); a `MeterProvider`
exists only for an OTLP exporter or ``OTEL_SENTRY_METRICS=all`` (decision 28).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otel_sentry import counters, guard, runtime
from otel_sentry.runtime import Runtime

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

#: Ours and our tools': what they log is about delivering telemetry.
_OWN = ("otel_sentry", "opentelemetry", "sentry_sdk")
#: But these are the application's business.
_NOT_OWN = ("otel_sentry.business", "otel_sentry.audit")
#: Own only while an exporter sends.
_WHILE_SENDING = ("urllib3", "requests", "httpx", "httpcore", "grpc")
_busy = threading.local()

_level = logging.INFO
_to_sentry = False
_logger_provider: Any = None
_meter_provider: Any = None


def wanted(settings: Settings) -> bool:
    """Is an exporter of logs or metrics set, that runs also without a DSN?"""
    return bool(exporter_names(settings.logs_exporter) or exporter_names(settings.metrics_exporter))


def exporter_names(names: tuple[str, ...]) -> list[str]:
    """The exporters in a setting of OpenTelemetry's; "none" is none."""
    return [name for name in names if name not in ("none", "otel_sentry")]


def described(settings: Settings, *, to_sentry: bool) -> list[str]:
    """For the start line: what goes where."""
    said = []
    if to_sentry and settings.logs:
        said.append(f"logs too (from {settings.logs_level})")
    if to_sentry and settings.metrics == "all":
        said.append("OpenTelemetry's metrics too")
    said.extend(f"logs to {name}" for name in exporter_names(settings.logs_exporter))
    said.extend(f"metrics to {name}" for name in exporter_names(settings.metrics_exporter))
    return said


def install(current: Runtime) -> None:
    """Put what *current*'s settings ask for in place. Idempotent; called again when they change."""
    global _level, _to_sentry
    settings = current.settings
    _to_sentry = current.sender is not None and settings.logs
    _level = logging.getLevelName(settings.logs_level.upper())
    with guard.block("logs set-up"):
        _make_logger_provider(current)
    with guard.block("metrics set-up"):
        _make_meter_provider(current)
    if _to_sentry or _logger_provider is not None:
        from otel_sentry.sentry import hooks

        hooks.log_sink = on_record
        hooks.install()
    elif "otel_sentry.sentry.hooks" in sys.modules:
        sys.modules["otel_sentry.sentry.hooks"].log_sink = None  # type: ignore[attr-defined]


def _make_logger_provider(current: Runtime) -> None:
    global _logger_provider
    names = exporter_names(current.settings.logs_exporter)
    if names and _logger_provider is None:
        from otel_sentry.backends import logs

        _logger_provider = logs.make_provider(names, current.settings, _resource(current))


def _make_meter_provider(current: Runtime) -> None:
    global _meter_provider
    names = exporter_names(current.settings.metrics_exporter)
    to_sentry = current.settings.metrics == "all" and current.sender is not None
    if (names or to_sentry) and _meter_provider is None:
        from otel_sentry.backends import metrics

        _meter_provider = metrics.make_provider(names, current.settings, _resource(current), to_sentry=to_sentry)


def _resource(current: Runtime) -> Any:
    """That of the traces: one release, environment and service everywhere."""
    resource = getattr(current.provider, "resource", None)
    if resource is None:
        from otel_sentry.wiring import resource_of as make

        resource = make(current.settings)
    return resource


def on_record(record: logging.LogRecord) -> None:
    """A log record, before any handler has it."""
    if record.levelno < _level or getattr(_busy, "on", False) or is_own(record.name):
        return
    _busy.on = True  # what is logged while a record is taken must not be taken
    try:
        _take(record)
    finally:
        _busy.on = False


def take_logs() -> bool:
    """Does any backend want log records?"""
    return _to_sentry or _logger_provider is not None


def _take(record: logging.LogRecord) -> None:
    from otel_sentry.logs import snapshot

    current = runtime.get()
    if current is None:
        return
    queued, provider = False, _logger_provider
    with guard.block("log record"):
        taken = snapshot(record, pii=current.settings.send_default_pii, stack=provider is not None)
        if provider is not None:
            from otel_sentry.backends import logs

            logs.emit(provider, taken)
        if _to_sentry:
            from otel_sentry.sentry import logs_v2

            logs_v2.put(taken)
        queued = True
    if not queued and _to_sentry:
        counters.lost("internal_sdk_error", "log_item")


def is_own(name: str) -> bool:
    """Does this logger speak about delivering telemetry? Its records would make more of themselves."""
    if name.startswith(_OWN) and any(_under(name, own) for own in _OWN):
        return not any(_under(name, one) for one in _NOT_OWN)
    return name.startswith(_WHILE_SENDING) and _sending()


def _under(name: str, parent: str) -> bool:
    return name == parent or name.startswith(parent + ".")


def _sending() -> bool:
    """Is this thread an exporter's? They all say so to the instrumentors."""
    from opentelemetry import context

    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
    return bool(context.get_value(key) or context.get_value("suppress_instrumentation"))


def loaded(name: str) -> Any:
    """A module that has been imported, as a whole: at exit a thread may still be at it."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def drain() -> None:
    """Hand what waits in batches to the sender: ours, and those of an application's `sentry_sdk.logger`."""
    for name in ("otel_sentry.sentry.logs_v2", "otel_sentry.sentry.metrics_v2"):
        module = loaded(name)
        if module is not None:
            with guard.block("flush of logs and metrics"):
                module.batcher.flush()
    compat = loaded("otel_sentry.sentry.compat")
    if compat is not None:
        with guard.block("flush of sentry_sdk's batches"):
            compat.flush_batches()


def others(method: str) -> list[Callable[[], object]]:
    """*method* (``force_flush``, ``shutdown``) of the providers that exist, and of each other backend's queue by
    itself: the providers ask one after the other, and one that hangs must not cost the others their turn."""
    queues = loaded("otel_sentry.backends.queue")
    parts = [_meter_provider, _logger_provider, *(queues.queues if queues is not None else ())]
    return [getattr(part, method) for part in parts if part is not None]


def account() -> None:
    """The time for other backends is over: count what has not left, and say it."""
    queues = loaded("otel_sentry.backends.queue")
    if queues is not None:
        with guard.block("other backends' losses"):
            queues.account()


def stopped() -> None:
    """The providers have been shut down: nothing is fed to them any more."""
    global _logger_provider, _meter_provider
    _logger_provider = _meter_provider = None
