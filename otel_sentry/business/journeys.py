"""User journeys: what a person does over several requests and tasks, as one story with steps, durations and an end.

Nothing here waits: the calls describe the current span and hand the rest to the business worker
(`otel_sentry.business.journey_store`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

from opentelemetry.trace import Span, SpanContext, TraceFlags, get_current_span

from otel_sentry import ambient, guard, runtime
from otel_sentry.ambient.journey import MAX_NAME, Here, Journey, here
from otel_sentry.business import worker
from otel_sentry.errors import user_fields
from otel_sentry.logs import value_of
from otel_sentry.privacy import cut
from otel_sentry.trace.segment import segment_of

#: Entries of a step's data, characters of each, and of all together.
MAX_DATA = 20
_MAX_TEXT = 200
_MAX_DATA_SIZE = 2_000
_SIMPLE = (int, float, bool, type(None))
_LONGEST_S = 30 * 86400.0


#: Not `os.urandom` for each: it lets go of the interpreter, and the caller waits until other threads give it back.
_random = Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def _new_id() -> str:
    return f"{_random.getrandbits(128):032x}"


@dataclass(slots=True)
class Call:
    """One call of `user_journey`, on its way to the worker."""

    id: str  # the same when it is made again
    at: float  # seconds since the epoch
    journey: Journey
    data: dict[str, Any]
    place: tuple[int, int]  # trace id and span id; zeros outside of a span
    step: str | None = None  # of `add_step`
    outcome: str | None = None  # of `complete_journey`
    is_start: bool = False
    ended: str | None = None  # name of the one that has ended here, where none is known
    span: Span | None = None  # to be linked once it is known which journey this is


class UserJourney:
    """Follow what a user does across requests, tasks and processes::

        user_journey.start_journey("user_registration", user_id="123")
        user_journey.add_step("email_validation", {"provider": "example.com"})
        user_journey.complete_journey(success=True)

    Which journey is meant: the one named *name*; else that of this request or task, or of what caused it (tasks get it
    with their message, later requests with the Django session); else the one that is open for the user. Never raises.
    """

    @guard.call("start_journey")
    def start_journey(
        self,
        name: str,
        user_id: Any = None,
        *,
        data: Mapping[str, Any] | None = None,
        timeout_s: float = 86400,
    ) -> None:
        """Begin a journey.

        Args:
            name: of the kind of journey; few different ones.
            user_id: who; default: the current user, if known. Stored as a hash only.
            data: further values, scrubbed before they are stored.
            timeout_s: seconds after which it counts as abandoned.

        """
        if runtime.get() is None:
            return
        now = time.time()
        lasts = min(max(float(timeout_s), 1.0), _LONGEST_S)
        span = get_current_span()
        journey = Journey(_new_id(), _name(name), now, lasts, _user_key(user_id) or _current_user())
        call = _call(span, journey, data, now)
        call.is_start = True
        _note(span, _here(span), journey, call, "journey.start")

    @guard.call("add_step")
    def add_step(
        self, step: str, data: Mapping[str, Any] | None = None, *, name: str | None = None, user_id: Any = None
    ) -> None:
        """Note that the journey came to *step*, now.

        Args:
            step: few different ones.
            data: further values, scrubbed before they are stored.
            name: of the journey, where several are open.
            user_id: whose; default: the current user, if known.

        """
        if runtime.get() is None:
            return
        span = get_current_span()
        known = _here(span)
        journey = _find(known, name, user_id)
        call = _call(span, journey, data, time.time())
        call.step = _name(step)
        _note(span, known, journey, call, "journey.step")

    @guard.call("complete_journey")
    def complete_journey(
        self,
        success: bool = True,
        final_data: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        user_id: Any = None,
    ) -> None:
        """End the journey: as ``completed``, or as ``failed`` without *success*.

        Args:
            success: did it come to the end that it should?
            final_data: further values, scrubbed before they are stored.
            name: of the journey, where several are open.
            user_id: whose; default: the current user, if known.

        """
        if runtime.get() is None:
            return
        span = get_current_span()
        known = _here(span)
        journey = _find(known, name, user_id)
        call = _call(span, journey, final_data, time.time())
        call.outcome = "completed" if success else "failed"
        _note(span, known, journey, call, "journey.end")
        known.forget(journey)


user_journey = UserJourney()


def _here(span: Span) -> Here:
    return here(segment_of(span.get_span_context()), create=True) or Here()


def _find(known: Here, name: str | None, user_id: Any) -> Journey:
    """The journey of this context that is meant, or one for the worker to find."""
    name = _name(name) if name is not None else None
    user = _user_key(user_id)
    journey = known.find(name, user)
    if journey is None:
        return Journey(None, name, user=user or _current_user())
    journey.user = journey.user or user
    return journey


def _call(span: Span, journey: Journey, data: Mapping[str, Any] | None, at: float) -> Call:
    context = span.get_span_context()
    return Call(_new_id(), at, journey, _plain(data), (context.trace_id, context.span_id))


def _note(span: Span, known: Here, journey: Journey, call: Call, event: str) -> None:
    if call.step is not None:
        journey.step = call.step
    if span.is_recording():
        attributes: dict[str, Any] = _attributes(journey, call)
        if len(attributes) == 1:  # half the price
            span.set_attribute(*next(iter(attributes.items())))
        elif attributes:
            span.set_attributes(attributes)
        for key, value in call.data.items():
            attributes[f"journey.data.{key}"] = value
        span.add_event(event, attributes)
        if journey.id is None:
            call.span = span
        if journey.last is not None:
            link(span, journey.last)
    if journey.id is None:
        call.ended = known.ended
    if call.place[0]:
        journey.last = call.place
    known.use(journey)
    worker.submit(_apply, call)


def _apply(call: Call) -> None:
    from otel_sentry.business import journey_store  # loads the store: on the worker's time

    journey_store.apply(call)


def _attributes(journey: Journey, call: Call) -> dict[str, str]:
    """What the span does not say yet."""
    named = {"journey.step": call.step}
    if journey.last != call.place:
        named = {"journey.id": journey.id, "journey.name": journey.name, "journey.step": journey.step}
    return {name: value for name, value in named.items() if value is not None}


def link(span: Any, last: tuple[int, int]) -> None:
    """Join *span* to the journey's step before, unless that is in the same trace."""
    if last[0] == span.get_span_context().trace_id:
        return
    context = SpanContext(last[0], last[1], is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    span.add_link(context, {"sentry.link.type": "previous_trace"})


def _name(text: Any) -> str:
    return _short(text).strip() or "unnamed"


def _short(value: Any) -> str:
    """Never `str` of somebody's object, which may do anything."""
    if isinstance(value, str):
        return value[:MAX_NAME]
    if _is_simple(value):
        return str(value)
    return f"<{type(value).__name__}>"


def _current_user() -> str | None:
    user = ambient.current().user
    return _user_key(user.get("id")) if user else None


def _user_key(user: Any) -> str | None:
    """A user's id, as it is used in the store: nobody reads there who did what."""
    if user is None:
        return None
    if not isinstance(user, str | int):
        if isinstance(user, UUID):
            user = str(user)
        else:
            user = (user_fields(user) or {}).get("id")
            if user is None:
                return None
    return _hashed(_short(user))


@lru_cache(maxsize=1024)
def _hashed(user: str) -> str:
    return blake2b(user.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _plain(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """The data as it is now, in plain values; what is too much is left out."""
    if not data or not isinstance(data, Mapping):
        return {}
    found: dict[str, Any] = {}
    size = 0
    for key, value in islice(data.items(), MAX_DATA):
        plain = cut(value, _MAX_TEXT) if type(value) is str else value if _is_simple(value) else _of_more(value)
        size += len(plain) if isinstance(plain, str) else 20
        if size > _MAX_DATA_SIZE:
            break
        found[_short(key)] = plain
    return found


def _of_more(value: Any) -> Any:
    """A value that is no text or number, as far as it is small and consists of such."""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        inside = value.values() if isinstance(value, Mapping) else value
        if len(value) > MAX_DATA or not all(_is_simple(one) or _is_short(one) for one in inside):
            return f"<{type(value).__name__} of {len(value)}>"
    elif isinstance(value, int):
        return "<int>"  # Python refuses to write those as text
    plain = value_of(value)
    return cut(plain, _MAX_TEXT) if isinstance(plain, str) else plain


def _is_simple(value: Any) -> bool:
    return type(value) in _SIMPLE and (type(value) is not int or -(2**63) <= value < 2**63)


def _is_short(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_NAME
