"""Formatters for the standard library's handlers: each line with its trace, its user and its business operation.

Both scrub what they write, as everything that leaves by us is scrubbed, and neither ever raises.
"""

from __future__ import annotations

import copy
import logging
import traceback
from datetime import datetime, timezone
from typing import Any

from otel_sentry import guard, privacy, runtime
from otel_sentry.convention.naming import MAX_TEXT
from otel_sentry.logs import CONTEXT_FIELDS, MARK, TraceContextFilter, extra_of, message_of, value_of
from otel_sentry.sentry.envelope import dumps, plain

_add_context = TraceContextFilter().filter
#: For people: what a line shows of its context, where it is known.
_SHOWN = (
    ("trace_id", "trace"), ("span_id", "span"), ("user_id", "user"), ("user_type", "type"),
    ("business_operation", "operation"), ("business_module", "module"),
)  # fmt: skip
_MAX_STACK = 4 * MAX_TEXT


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record.

    Always there: ``timestamp`` (UTC, ISO 8601), ``level``, ``logger``, ``message``, ``file``, ``line``, ``function``,
    ``process``, ``thread``. Where known: the fields of `TraceContextFilter`, ``exception`` (``type``, ``message``,
    ``stacktrace``), ``stack``, and what `extra` holds, under its own names (``extra.<name>`` where that is taken).

    Args:
        datadog: add ``dd.trace_id`` and ``dd.span_id`` (decimal, 64 bits), ``dd.service``, ``dd.env``, ``dd.version``;
            default: where `OTEL_SENTRY_PRESET` is datadog.

    """

    def __init__(self, *args: Any, datadog: bool | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._datadog = datadog

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline at its end."""
        with guard.block("JsonFormatter"):
            return dumps(self._fields(_with_context(record))).decode()
        return dumps({"level": record.levelname, "logger": record.name, "message": _at_least(record)}).decode()

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        pii = _pii()
        values = vars(record)
        found: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": privacy.scrub_text(message_of(record), pii=pii),
        }
        ours = [key for key in CONTEXT_FIELDS if key in values[MARK]]
        found.update({key: values[key] for key in ours if values[key] not in ("", None)})
        if found.get("trace_id") is None:
            found.pop("trace_sampled", None)
        if self._datadog or (self._datadog is None and _preset() == "datadog"):
            found.update(_datadog(found))
        found.update(
            file=record.pathname, line=record.lineno, function=record.funcName,
            process=record.process, thread=record.threadName,
        )  # fmt: skip
        found.update(_exception(record, pii))
        extra = privacy.scrub({key: _taken(value) for key, value in extra_of(record).items()}, pii=pii)
        found.update({(f"extra.{key}" if key in found else key): value for key, value in extra.items()})
        return found


class TextFormatter(logging.Formatter):
    """Plain lines; after the message what is known of trace, user and operation::

        2026-01-31 12:00:00,000 INFO shop.cart paid [trace=4bf9... span=00f0... user=7 operation=checkout module=shop]

    With a *fmt* of your own nothing is added: the fields of `TraceContextFilter` are there for it, empty where nothing
    is known, as in ``"%(levelname)s %(trace_id)s %(user_id)s %(message)s"``.
    """

    _DEFAULT = "%(asctime)s %(levelname)s %(name)s %(message)s%(otel_sentry_context)s"

    def __init__(self, fmt: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(fmt or self._DEFAULT, *args, **kwargs)

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the traceback if there is one."""
        with guard.block("TextFormatter"):
            shown = _with_context(record)
            message = message_of(shown)
            shown.msg, shown.args = message, ()
            setattr(shown, "otel_sentry_context", _context_text(shown))
            if shown.exc_info:
                shown.exc_text = None  # of another formatter
            return privacy.scrub_text(super().format(shown)[: 8 * MAX_TEXT], pii=_pii())
        return f"{record.levelname} {record.name} {_at_least(record)}"


def _with_context(record: logging.LogRecord) -> logging.LogRecord:
    """A copy that has the filter's fields; those that it has already come from the thread that logged, and count."""
    copied = copy.copy(record)
    if MARK not in vars(copied):
        _add_context(copied)
    return copied


def _at_least(record: logging.LogRecord) -> str:
    """The message, where the rest of the record is odd."""
    return privacy.scrub_text(record.msg if isinstance(record.msg, str) else f"<{type(record.msg).__name__}>")


def _context_text(record: logging.LogRecord) -> str:
    values = vars(record)
    found = [f"{word}={values[key]}" for key, word in _SHOWN if key in values[MARK] and values[key]]
    return f" [{' '.join(found)}]" if found else ""


def _taken(value: Any) -> Any:
    """An extra field: nested data as it is, everything else as an attribute."""
    return plain(value) if type(value) in (dict, list, tuple) else value_of(value)


def _exception(record: logging.LogRecord, pii: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exc = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if exc is not None:
        stack = "".join(traceback.format_exception(exc))[-_MAX_STACK:]
        found["exception"] = {
            "type": type(exc).__qualname__,
            "message": privacy.scrub_text(_words(exc), pii=pii),
            "stacktrace": privacy.scrub_text(stack, pii=pii),
        }
    elif record.exc_text:  # a QueueHandler has rendered it
        found["exception"] = {"stacktrace": privacy.scrub_text(record.exc_text[-_MAX_STACK:], pii=pii)}
    if record.stack_info:
        found["stack"] = privacy.scrub_text(record.stack_info[-_MAX_STACK:], pii=pii)
    return found


def _words(exc: BaseException) -> str:
    texts: list[str] = []
    failure = guard.outcome(lambda: texts.append(str(exc)[:MAX_TEXT]))
    return texts[0] if failure is None else "<unprintable>"


def _datadog(fields: dict[str, Any]) -> dict[str, Any]:
    """Datadog's names for trace and service; its ids are the lower 64 bits, in decimal."""
    current = runtime.get()
    found = {
        "dd.trace_id": str(int(fields["trace_id"], 16) & (2**64 - 1)) if fields.get("trace_id") else "0",
        "dd.span_id": str(int(fields["span_id"], 16)) if fields.get("span_id") else "0",
        "dd.service": fields.get("service"),
        "dd.env": fields.get("environment"),
        "dd.version": current.settings.release if current is not None else None,
    }
    return {key: value for key, value in found.items() if value}


def _pii() -> bool:
    current = runtime.get()
    return current is not None and current.settings.send_default_pii


def _preset() -> str | None:
    current = runtime.get()
    return current.settings.preset if current is not None else None
