"""`log_business_event`: a fact of the business, told once to everybody who wants to know."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from otel_sentry import ambient, guard, privacy, runtime, signals
from otel_sentry.errors import user_fields
from otel_sentry.logs import nested, text_of, value_of
from otel_sentry.trace.segment import segment_of

#: Where business events are logged.
LOGGER = logging.getLogger("otel_sentry.business")
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
_MAX_NAME = 200
_MAX_DATA = 50


def log_business_event(name: str, data: Mapping[str, Any] | None = None, level: str = "info", user: Any = None) -> None:
    """Note a fact of the business: ``log_business_event("post_published", {"kind": "video"})``.

    It becomes one record of the logger ``otel_sentry.business`` (and so, where they are on, one log in Sentry and one
    by OTLP, whatever level that logger has), an event of the current span, and a breadcrumb of later errors. At level
    "error" too it is no issue: that is what alerts are for.

    Args:
        name: what has happened, without ids or values.
        data: details; scrubbed, then fields ``data.<key>`` of the record. At most 50.
        level: "debug", "info", "warning", "error" or "critical".
        user: whom it is about, when that is not the current user: a Django user, a mapping or an id.

    Never raises.

    """
    with guard.block("log_business_event"):
        _log(text_of(name, _MAX_NAME), data, level, user, sys._getframe(1))


def _log(name: str, data: Any, level: Any, user: Any, caller: FrameType) -> None:
    current = runtime.get()
    word, levelno = _level(level)
    span = get_current_span()
    segment = segment_of(span.get_span_context())
    by_handlers = LOGGER.isEnabledFor(levelno)
    is_logged = by_handlers or signals.take_logs()
    if not is_logged and segment is None and not span.is_recording():
        return
    values = privacy.scrub(_plain(data), pii=current is not None and current.settings.send_default_pii)
    about = _about(user) if user is not None else None
    if span.is_recording():
        span.add_event(name, {**values, **ambient.user_attributes(about)} if about else values)
    if segment is not None:
        ambient.crumb("business", name, word, values)
    if not is_logged:
        return
    token = _attach_user(about) if about else None
    try:
        _record(name, levelno, values, caller, by_handlers)
    finally:
        if token is not None:
            otel_context.detach(token)


def _about(user: Any) -> dict[str, Any] | None:
    if isinstance(user, Mapping):
        return nested(user)
    return user_fields(text_of(user) if type(user) is int else user)


def _plain(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    if type(data) is not dict and not isinstance(data, Mapping):
        return {"value": value_of(data)}
    few = itertools.islice(data.items(), _MAX_DATA)
    return {text_of(key, _MAX_NAME): value_of(value) for key, value in few if value is not None}


def _level(given: Any) -> tuple[str, int]:
    word = given.strip().lower() if isinstance(given, str) else ""
    if word not in _LEVELS:
        guard.say_once("event_level", "a business event's level is none of debug, info, warning, error, critical")
        word = "info"
    return ("fatal" if word == "critical" else word), _LEVELS[word]


def _attach_user(user: Mapping[str, Any]) -> Any:
    """Put *user* in the place of the current one, until the result is detached."""
    here = ambient.Ambient(user, ambient.current().business)
    return otel_context.attach(otel_context.set_value(ambient.AMBIENT_KEY, here))


def _record(name: str, levelno: int, values: Mapping[str, Any], caller: FrameType, by_handlers: bool) -> None:
    code = caller.f_code
    extra = {"business_event": name, **{f"data.{key}": value for key, value in values.items()}}
    record = LOGGER.makeRecord(
        LOGGER.name, levelno, code.co_filename, caller.f_lineno, name, (), None, code.co_name, extra
    )
    if by_handlers:
        LOGGER.handle(record)
    else:  # its level is off, or dictConfig has disabled the logger; backends want it all the same
        signals.on_record(record)
