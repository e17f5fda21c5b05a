"""Log records with trace context: the filter for your own handlers, and the one snapshot that Sentry and OTLP get.

Logs reach a backend only when asked to (``OTEL_SENTRY_LOGS=1``, ``OTEL_LOGS_EXPORTER=otlp``): `otel_sentry.signals`.
"""

from __future__ import annotations

import bisect
import datetime
import decimal
import itertools
import logging
import traceback
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from otel_sentry import ambient, guard, runtime
from otel_sentry.convention.naming import MAX_TEXT, cut
from otel_sentry.privacy import FILTERED, is_sensitive_key
from otel_sentry.trace.segment import current_segment

#: On a record that `TraceContextFilter` has seen: the names of the fields that are its own.
MARK = "_otel_sentry"
#: What the filter puts on a record.
CONTEXT_FIELDS = (
    "trace_id", "span_id", "trace_sampled", "service", "environment",
    "user_id", "user_type", "business_operation", "business_module",
)  # fmt: skip
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PRIMITIVE = frozenset({str, int, float, bool})
#: Types of the standard library whose `str` runs no code of the user's.
_AS_TEXT = frozenset(
    {uuid.UUID, decimal.Decimal, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, complex}
)
_MAX_ITEMS = 50
#: Of a mapping that becomes text; and values of `nested` in all: data may hold itself.
_MAX_LEVELS = 4
_MAX_NESTED = 200
#: Extra fields and parameters of one record; the rest is left out.
_MAX_FIELDS = 100


#: Python's levels, and for each range Sentry's level and OpenTelemetry's severity number.
_FROM = (10, 20, 30, 40, 50)
_LEVELS = (("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17), ("fatal", 21))


class TraceContextFilter(logging.Filter):
    """Puts trace, user and business operation on every record: ``trace_id``, ``span_id``, ``trace_sampled``,
    ``service``, ``environment``, ``user_id``, ``user_type``, ``business_operation`` and ``business_module``::

        handler.addFilter(TraceContextFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s [%(trace_id)s %(span_id)s] %(message)s"))

    Ids are lower-case hex (32 and 16 characters), ``trace_sampled`` is the W3C flag; what is not known is empty. Drops
    nothing, and leaves alone what `extra` has put under these names. On a handler it sees all records that the handler
    gets, on a logger only that logger's own. The formatters below need it only where records change threads
    (`QueueHandler`): there it belongs on the first handler.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; always True."""
        values = vars(record)
        before = values.get(MARK, ())
        fields: dict[str, Any] = dict.fromkeys(CONTEXT_FIELDS, "")
        with guard.block("TraceContextFilter"):
            fields = _context_fields()
        found = {key: value for key, value in fields.items() if key not in values or key in before}
        values.update(found)
        values[MARK] = tuple(found)
        return True


def _context_fields() -> dict[str, Any]:
    place = get_current_span().get_span_context()
    current = runtime.get()
    known = ambient.current()
    user = ambient.user_attributes(known.user or {})
    business = known.business
    return {
        "trace_id": format_trace_id(place.trace_id) if place.is_valid else "",
        "span_id": format_span_id(place.span_id) if place.is_valid else "",
        "trace_sampled": place.is_valid and place.trace_flags.sampled,
        "service": current.settings.service_name if current is not None else "",
        "environment": current.settings.environment if current is not None else "",
        "user_id": user.get("user.id", ""),
        "user_type": user.get("user_type", ""),
        "business_operation": business.operation if business is not None else "",
        "business_module": (business.module if business is not None else None) or "",
    }


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
    body = message_of(record)
    template = cut(record.msg) if parameters and isinstance(record.msg, str) else None
    size = 400 + len(body) + size_of(parameters) + size_of(attributes)
    return Snapshot(
        record.created, span_context.trace_id, span_context.span_id, record.levelno, record.name,
        body, template, parameters, attributes, size,
    )  # fmt: skip


def severity(levelno: int) -> tuple[str, int]:
    """Sentry's level and the OpenTelemetry severity number of a level of the logging module."""
    return _LEVELS[bisect.bisect_right(_FROM, levelno)]


def message_of(record: logging.LogRecord) -> str:
    """The record's text, cut; without the values of parameters whose names say that they are secret."""
    texts: list[str] = []
    if guard.outcome(lambda: texts.append(record.getMessage())) is not None:  # arguments that do not fit, or odd ones
        texts.append(str(value_of(record.msg)))
    text = texts[0]
    return cut(_without_named_secrets(text, record.args), 2 * MAX_TEXT)


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


def extra_of(record: logging.LogRecord) -> dict[str, Any]:
    """What the program put on the record by `extra`; at most 100 fields."""
    values = vars(record)
    by_filter = values.get(MARK, ())
    found = {
        key: value
        for key, value in list(values.items())
        if key not in _RECORD_FIELDS and key[:1] != "_" and key not in by_filter and value is not None
    }
    return found if len(found) <= _MAX_FIELDS else dict(list(found.items())[:_MAX_FIELDS])


def _attributes(record: logging.LogRecord, stack: bool) -> dict[str, Any]:
    found = {key: value_of(value) for key, value in extra_of(record).items()}
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
        items = [item if type(item) in _PRIMITIVE else _text(item) for item in itertools.islice(value, _MAX_ITEMS)]
        # Attributes hold lists of one type.
        return items if len({type(item) for item in items}) <= 1 else [str(item) for item in items]
    if kind is dict:
        from otel_sentry.sentry.envelope import MAX_DEPTH, dumps, plain

        few = dict(itertools.islice(value.items(), _MAX_ITEMS))
        return cut(dumps(plain(few, MAX_DEPTH - _MAX_LEVELS)).decode())
    return _text(value)


def text_of(value: Any, limit: int = MAX_TEXT) -> str:
    """*value* as text of at most *limit* characters."""
    if type(value) is str:
        return cut(value, limit)
    if type(value) is int and value.bit_length() > 1000:
        return "<int>"  # Python refuses to print it at all
    return cut(str(value_of(value)), limit)


def nested(values: Mapping[Any, Any]) -> dict[str, Any]:
    """*values* as plain ones, `value_of` each; mappings inside stay mappings, for three levels."""
    return _nested(values, 3, iter(range(_MAX_NESTED)))


def _nested(values: Mapping[Any, Any], depth: int, budget: Iterator[int]) -> dict[str, Any]:
    return {
        text_of(key): _nested(value, depth - 1, budget) if type(value) is dict and depth > 1 else value_of(value)
        for (key, value), _ in zip(itertools.islice(values.items(), _MAX_ITEMS), budget, strict=False)
    }


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
