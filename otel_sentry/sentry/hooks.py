"""Where the interpreter shows errors: `sys.excepthook`, `threading.excepthook` and the logging module
(decision 6).

Installed at start-up without sentry_sdk, which is loaded when the first issue is made.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from otel_sentry import guard, runtime

#: From which level log records become issues; None turns that off. An application's LoggingIntegration may
#: change it.
event_level: int | None = logging.ERROR

#: Their errors are about delivering errors, are said by us already, or repeat what a signal of Django's or Celery's
#: brings with its traceback (sentry-python leaves the same ones out).
_IGNORED = (
    "otel_sentry",
    "opentelemetry",
    "sentry_sdk",
    "urllib3.connectionpool",
    "django.request",
    "django.server",
    "celery.worker.request",
)
_LEVELS = {
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
    logging.INFO: "info",
}
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Where log records go beside issues, when logs are on; `otel_sentry.signals` sets it.
log_sink: Callable[[logging.LogRecord], None] | None = None
_busy = threading.local()
_active = False
#: What stood in the place of a hook of ours that is in place.
_originals: dict[str, Any] = {}


def install() -> None:
    """Put the hooks in place. Idempotent."""
    global _active
    _active = True
    for owner, key, name, hook in _places():
        if key not in _originals:
            _originals[key] = getattr(owner, name)
            setattr(owner, name, hook)


def uninstall() -> None:
    """Take the hooks away again; one that somebody has wrapped since stays, and does nothing. Idempotent."""
    global _active, event_level, log_sink
    _active = False
    event_level = logging.ERROR
    log_sink = None
    for owner, key, name, hook in _places():
        if key in _originals and getattr(owner, name) is hook:
            setattr(owner, name, _originals.pop(key))


def _places() -> tuple[tuple[Any, str, str, Any], ...]:
    return (
        (sys, "sys", "excepthook", _excepthook),
        (threading, "threading", "excepthook", _thread_excepthook),
        (logging.Logger, "logging", "callHandlers", _call_handlers),
    )


def _excepthook(kind: type[BaseException], exc: BaseException, tb: Any) -> None:
    _report(exc, "excepthook", "fatal")
    current = runtime.get()
    if _active and current is not None and current.sender is not None:
        with guard.block("excepthook"):
            current.sender.flush(current.settings.shutdown_timeout)
    _originals.get("sys", sys.__excepthook__)(kind, exc, tb)


def _thread_excepthook(args: Any) -> None:
    if args.exc_value is not None:
        _report(args.exc_value, "threading", "error")
    _originals.get("threading", threading.__excepthook__)(args)


def _report(exc: BaseException, mechanism: str, level: str) -> None:
    """Not an interruption by the user or an orderly exit."""
    if not isinstance(exc, KeyboardInterrupt | SystemExit | GeneratorExit) and _can_send():
        with guard.block(mechanism):
            from otel_sentry.sentry.client import capture_exception

            capture_exception(exc, handled=False, mechanism=mechanism, level=level)


def _can_send() -> bool:
    current = runtime.get()
    if not _active or current is None or current.sender is None:
        return False
    if current.settings.take_over_init:
        return True
    from otel_sentry.sentry.takeover import is_left_alone

    return not is_left_alone(current)  # its own integrations do what these hooks do


def _call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
    """`logging.Logger.callHandlers`: a handler of ours would be lost to dictConfig and propagate=False."""
    if log_sink is not None:
        log_sink(record)
    if event_level is not None and record.levelno >= event_level:
        _on_record(record)
    _originals["logging"](self, record)


def _on_record(record: logging.LogRecord) -> None:
    if getattr(_busy, "on", False) or not _can_send() or _is_ignored(record.name):
        return
    _busy.on = True  # what is logged while an issue is made must not make another
    try:
        with guard.block("logging hook"):
            _capture(record)
    finally:
        _busy.on = False


def _is_ignored(name: str) -> bool:
    if name.startswith(_IGNORED) and any(name == one or name.startswith(one + ".") for one in _IGNORED):
        return True
    from otel_sentry.sentry import compat

    return compat.is_ignored_logger(name)


def _capture(record: logging.LogRecord) -> None:
    from otel_sentry.sentry import client

    more: dict[str, Any] = {"logger": record.name, "logentry": _logentry(record)}
    extra = {key: value for key, value in vars(record).items() if key not in _RECORD_FIELDS and key[:1] != "_"}
    if extra:
        more["extra"] = extra
    level = _LEVELS.get(record.levelno, "error")
    exc = record.exc_info[1] if record.exc_info else None
    if exc is not None:
        client.capture_exception(exc, handled=True, mechanism="logging", level=level, more=more)
        return
    current = runtime.get()
    if current is not None and current.settings.log_errors:
        client.capture_message("", level=level, more=more)


def _logentry(record: logging.LogRecord) -> dict[str, Any]:
    from otel_sentry.sentry import reprs

    params = reprs.plain(list(record.args)) if isinstance(record.args, tuple) else reprs.plain(record.args)
    message = str(record.msg)
    try:
        formatted = record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit; logging itself only prints that
        formatted = message
    return {"message": message, "formatted": formatted, "params": params or []}
