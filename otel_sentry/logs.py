"""Log records with trace context: the filter for your own handlers, and the one snapshot that Sentry and OTLP get.

Logs reach a backend only when asked to (``OTEL_SENTRY_LOGS=1``, ``OTEL_LOGS_EXPORTER=otlp``): `otel_sentry.signals`.
"""

from __future__ import annotations

import bisect
import datetime
import decimal
import logging
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from otel_sentry import ambient, runtime
from otel_sentry.convention.naming import MAX_TEXT, cut
from otel_sentry.privacy import FILTERED, is_sensitive_key
from otel_sentry.trace.segment import current_segment

_FILTER_FIELDS = frozenset({"trace_id", "span_id", "trace_sampled", "service", "environment"})
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PRIMITIVE = frozenset({str, int, float, bool})
#: Types of the standard library whose `str` runs no code of the user's.
_AS_TEXT = frozenset(
    {uuid.UUID, decimal.Decimal, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, complex}
)
_MAX_ITEMS = 50
#: Extra fields and parameters of one record; the rest is left out.
_MAX_FIELDS = 100


#: Python's levels, and for each range Sentry's level and OpenTelemetry's severity number.
_FROM = (10, 20, 30, 40, 50)
_LEVELS = (("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17), ("fatal", 21))


class TraceContextFilter(logging.Filter):
    """Puts ``trace_id``, ``span_id``, ``trace_sampled``, ``service`` and ``environment`` on every record::

        handler.addFilter(TraceContextFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s [%(trace_id)s %(span_id)s] %(message)s"))

    Ids are lower-case hex (32 and 16 characters), empty outside of a span; ``trace_sampled`` is the W3C flag. Drops
    nothing. On a handler it sees all records that the handler gets, on a logger only that logger's own.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; always True."""
        span_context = get_current_span().get_span_context()
        valid = span_context.is_valid
        record.trace_id = format_trace_id(span_context.trace_id) if valid else ""
        record.span_id = format_span_id(span_context.span_id) if valid else ""
        record.trace_sampled = valid and span_context.trace_flags.sampled
        current = runtime.get()
        record.service = current.settings.service_name if current is not None else ""
        record.environment = current.settings.environment if current is not None else ""
        return True


@dataclass(slots=True)
class Snapshot:
    """A log record as it leaves: plain values only, made on the thread that logged (decision 19), not yet scrubbed."""

    created: float  # seconds since the epoch
    trace_id: int  # 0 outside of a span
    span_id: int
    levelno: int
    logger: str
    body: str
    template: str | None  # the message before formatting, when it had parameters
    parameters: dict[str, Any]
    attributes: dict[str, Any]
    size: int  # bytes of memory, about


def snapshot(record: logging.LogRecord, *, pii: bool = False, stack: bool = False) -> Snapshot:
    """What backends get of *record*.

    Args:
        record: the record; it is not changed.
        pii: the user's e-mail and name too, beside the id.
        stack: the traceback as ``exception.stacktrace`` (OTLP; Sentry has the issue).

    """
    span_context = get_current_span().get_span_context()
    parameters = _parameters(record.args)
    attributes = _attributes(record, stack)
    attributes.update(_ambient(pii))
    body = cut(_without_named_secrets(_message(record), record.args), 2 * MAX_TEXT)
    template = cut(record.msg) if parameters and isinstance(record.msg, str) else None
    size = 400 + len(body) + size_of(parameters) + size_of(attributes)
    return Snapshot(
        record.created, span_context.trace_id, span_context.span_id, record.levelno, record.name,
        body, template, parameters, attributes, size,
    )  # fmt: skip


def severity(levelno: int) -> tuple[str, int]:
    """Sentry's level and the OpenTelemetry severity number of a level of the logging module."""
    return _LEVELS[bisect.bisect_right(_FROM, levelno)]


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit; logging itself only prints that
        return str(record.msg)


def _without_named_secrets(text: str, args: Any) -> str:
    """``"%(user)s with %(password)s"``: in the text nothing shows which word was the password."""
    if isinstance(args, Mapping):
        for key, value in args.items():
            word = value if type(value) is str else str(value) if type(value) is int else ""
            if len(word) > 2 and isinstance(key, str) and is_sensitive_key(key):
                text = text.replace(word, FILTERED)
    return text


def _parameters(args: Any) -> dict[str, Any]:
    if isinstance(args, Mapping):
        return {str(key): value_of(value) for key, value in list(args.items())[:_MAX_FIELDS]}
    if isinstance(args, tuple):
        return {str(number): value_of(value) for number, value in enumerate(args[:_MAX_FIELDS])}
    return {}


def _attributes(record: logging.LogRecord, stack: bool) -> dict[str, Any]:
    values = vars(record)
    by_filter = _FILTER_FIELDS if "trace_sampled" in values else ()
    found = {
        key: value_of(value)
        for key, value in list(values.items())
        if key not in _RECORD_FIELDS and key[:1] != "_" and key not in by_filter and value is not None
    }
    if len(found) > _MAX_FIELDS:
        found = dict(list(found.items())[:_MAX_FIELDS])
    found["code.file.path"] = record.pathname
    found["code.function.name"] = record.funcName or ""
    found["code.line.number"] = record.lineno
    found["thread.name"] = record.threadName or ""
    exc = record.exc_info[1] if record.exc_info else None
    if exc is not None:
        found["exception.type"] = type(exc).__qualname__
        found["exception.message"] = cut(str(exc))
        if stack:
            found["exception.stacktrace"] = "".join(traceback.format_exception(exc))[-4 * MAX_TEXT :]
    return found


def _ambient(pii: bool) -> dict[str, Any]:
    """User and business operation, by the rules for spans: the id always, e-mail and name only with PII."""
    segment = current_segment()
    found = ambient.attributes_for(segment, None, ("user", "business")) or {}
    user = ambient.current(segment).user if pii else None
    if user:
        for key, name in (("email", "user.email"), ("username", "user.name")):
            if user.get(key):
                found[name] = str(user[key])
    return found


def value_of(value: Any) -> Any:
    """*value* as an attribute: primitive, or a list of such. Never `str` of a user's object, which may run queries."""
    kind = type(value)
    if kind is str:
        return cut(value)
    if kind in _PRIMITIVE:
        return value
    if kind in _AS_TEXT:
        return str(value)
    if kind in (list, tuple, set, frozenset):
        items = [item if type(item) in _PRIMITIVE else _text(item) for item in list(value)[:_MAX_ITEMS]]
        # Attributes hold lists of one type.
        return items if len({type(item) for item in items}) <= 1 else [str(item) for item in items]
    if kind is dict:
        from otel_sentry.sentry.envelope import dumps, plain

        return cut(dumps(plain(value)).decode())
    return _text(value)


def _text(value: Any) -> str:
    from otel_sentry.sentry import reprs

    if type(value) in _AS_TEXT:
        return str(value)
    return cut(reprs.describe(value) or f"<{type(value).__name__}>")


def size_of(values: Mapping[str, Any]) -> int:
    """Bytes of memory that attributes take, about."""
    size = 80 * len(values)
    for value in values.values():
        if type(value) is str:
            size += len(value)
        elif type(value) is list:
            size += sum(60 + len(item) if type(item) is str else 30 for item in value)
    return size
