"""The user journeys that the code at hand is part of: known in a request, a task, a command, and what each causes.

A message carries the journey that was used last (`carry`), a session keeps it for the next request. What a journey
consists of is in the store (`otel_sentry.business.journey_store`); here is only which one it is.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from otel_sentry.ambient import carry
from otel_sentry.trace.segment import Segment, current_segment

#: Names of journeys and steps are cut to so many characters.
MAX_NAME = 100
#: Journeys that one request or task keeps in mind.
_MAX_KNOWN = 8
_SESSION_KEY = "_otel_sentry_journey"
_KEY = otel_context.create_key("otel-sentry-journeys")

Session = MutableMapping[str, Any]


@dataclass(slots=True)
class Journey:
    """Which journey. *id* None: the worker has yet to find out (by name and user), and then fills it in."""

    id: str | None
    name: str | None = None
    started: float | None = None  # seconds since the epoch; None: nobody started it
    timeout_s: float | None = None
    user: str | None = None  # a hash of the user's id
    step: str | None = None
    last: tuple[int, int] | None = None  # trace id and span id of the last step

    def pack(self) -> str:
        """As text, for headers and sessions."""
        values = [self.id, self.name, self.started, self.timeout_s, self.user, self.step, self.last]
        return json.dumps(values, ensure_ascii=False)

    def as_context(self) -> dict[str, Any]:
        """For the block ``business_context`` of an issue."""
        return {"journey": self.name, "journey_id": self.id, "journey_step": self.step}


def unpack(text: object) -> Journey | None:
    """What `Journey.pack` made; None where it is anything else."""
    if not isinstance(text, str):
        return None
    try:
        known, name, started, timeout_s, user, step, last = json.loads(text)
        place = (int(last[0]), int(last[1])) if last else None
        return Journey(_word(known), _word(name), _number(started), _number(timeout_s), _word(user), _word(step), place)
    except (ValueError, TypeError, LookupError):
        return None


def _word(value: Any) -> str | None:
    return str(value)[:MAX_NAME] if value is not None else None


def _number(value: Any) -> float | None:
    return float(value) if value else None


class Here:
    """The journeys of one request, task or command; the one used last comes last.

    *session* returns what outlives the request, if it can be read and written without any cost; else None.
    """

    __slots__ = ("_session", "_session_read", "ended", "known")

    def __init__(self, known: Journey | None = None, session: Callable[[], Session | None] | None = None) -> None:
        self.known: list[Journey] = [known] if known is not None else []
        self.ended: str | None = None  # name of the one that came to its end last
        self._session = session
        self._session_read = False

    def find(self, name: str | None = None, user: str | None = None) -> Journey | None:
        """The journey used last, of those with that *name* and *user*."""
        self._read_session()
        for one in reversed(self.known):
            if (name is None or one.name in (name, None)) and (user is None or one.user in (user, None)):
                return one
        return None

    def use(self, journey: Journey) -> None:
        """*journey* is the one used last."""
        self.known = [one for one in self.known if one is not journey][1 - _MAX_KNOWN :] + [journey]
        self._write_session(journey)

    def forget(self, journey: Journey) -> None:
        """*journey* has come to its end."""
        self.ended = journey.name
        self.known = [one for one in self.known if one is not journey]
        self._write_session(self.known[-1] if self.known else None)

    def _read_session(self) -> None:
        session = self._session() if self._session is not None and not self._session_read else None
        if session is None:
            return
        self._session_read = True
        stored = unpack(session.get(_SESSION_KEY))
        if stored is not None:
            self.known.insert(0, stored)

    def _write_session(self, journey: Journey | None) -> None:
        """Only when it is another one than before: a session that changes is written to the database."""
        session = self._session() if self._session is not None else None
        if session is None:
            return
        stored = unpack(session.get(_SESSION_KEY))
        if journey is None or journey.id is None:
            if stored is not None:
                del session[_SESSION_KEY]
        elif stored is None or stored.id != journey.id:
            session[_SESSION_KEY] = journey.pack()


#: Outside of any request or task, of the main thread only: a pool's thread would show it to its next job.
_outside: ContextVar[Here | None] = ContextVar("otel_sentry_journeys", default=None)


def here(segment: Segment | None = None, *, create: bool = False) -> Here | None:
    """The journeys of *segment* (default: the current one), or of the command that runs on the main thread."""
    segment = segment or current_segment()
    if segment is not None and segment.journeys is not None:
        known: Here = segment.journeys
        return known
    found: Any = otel_context.get_value(_KEY)
    if not isinstance(found, Here):
        found = None
        is_main = segment is None and threading.current_thread() is threading.main_thread()
        if is_main:
            found = _outside.get()
        if found is None and create:
            found = Here()
            if is_main:
                _outside.set(found)
    if segment is not None:
        segment.journeys = found
    return found if isinstance(found, Here) else None


def current(segment: Segment | None = None) -> Journey | None:
    """The journey used last here."""
    known = here(segment)
    return known.find() if known is not None else None


def _read() -> str | None:
    journey = current()
    return journey.pack() if journey is not None else None


def _write(text: str, context: Context) -> Context:
    journey = unpack(text)
    return context if journey is None else otel_context.set_value(_KEY, Here(journey), context)


carry.register("journey", _read, _write)
