"""Journeys in the store: which one a call means, its steps in the order of their own times, its end, its measurements.

All of it runs on the business worker. Each call may be made again after the store was away: what it changes carries the
call's id and is changed once; measurements come last.

A journey is one document, ``journey:<id>``; ``journeys-of:<user>`` names the open ones of a user; ``journeys-due:all``
says when each becomes abandoned.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_sentry import guard, runtime
from otel_sentry.business import journeys, metrics
from otel_sentry.business.journeys import Call
from otel_sentry.business.store import Document, Store, get, needs_sharing
from otel_sentry.privacy import scrub

#: Steps of one journey that are kept; open journeys of one user.
MAX_STEPS = 50
MAX_OPEN = 20
_DEFAULT_TIMEOUT_S = 86400.0
#: An ended journey stays readable for so long (seconds).
_KEEP_S = 86400.0
_DUE = "journeys-due:all"
_SWEEP_EVERY_S = 10.0
_SWEEP_AT_ONCE = 50
#: A journey that was given up and goes on, and on.
_MAX_AFTER = 5
#: Journeys that nobody's user id was said for, of this process: name -> ids of open ones.
_anonymous: dict[str, dict[str, None]] = {}
_MAX_ANONYMOUS = 1000
_overdue: deque[str] = deque()
_next_sweep = 0.0
_LONGEST_S = 31 * 86400.0


def apply(call: Call) -> None:
    """Put one call of `user_journey` into the store."""
    store = get()
    _sweep(store)
    if call.is_start:
        _start(store, call)
    elif _resolved(store, call):
        _go_on(store, call)


def _start(store: Store, call: Call) -> None:
    journey = call.journey

    def begin(known: Document | None) -> Document:
        document = known or _new(call)  # a step in another process may have been faster
        document["data"] = _scrubbed(call)
        document["user"] = document["user"] or journey.user
        return document

    document = _change(store, call, begin)
    if document["outcome"] is None:
        _note_open(store, document, call.at)


def _resolved(store: Store, call: Call) -> bool:
    """Find out which journey is meant. A step without one begins a journey, which is marked as implicit."""
    journey = call.journey
    if journey.id is not None:
        return True
    found = _open_one(store, journey.name, journey.user)
    document = store.load(_key(found)) if found is not None else None
    if document is not None:
        journey.name, journey.started, journey.timeout_s = (document[key] for key in ("name", "started", "timeout_s"))
        journey.id = document["id"]
        _link_later(call, document)
        return True
    called = f" {journey.name!r}" if journey.name else ""
    if call.outcome is not None:
        guard.say_once("journey_end", f"complete_journey: no journey{called} is open here; left out")
        return False
    guard.say_once("journey_start", f"add_step: no journey{called} is open here; one is begun, marked as implicit")
    journey.name = journey.name or call.ended or "unnamed"
    journey.id = call.id
    return True


def _open_one(store: Store, name: str | None, user: str | None) -> str | None:
    """The open journey of that *name* and *user*; of several the one used last."""
    if user is None:
        found = list(_anonymous.get(name, ())) if name is not None else []
    else:
        known = store.load(f"journeys-of:{user}") or {}
        found = sorted((key for key in known if name in (None, known[key][0])), key=lambda key: float(known[key][1]))
    if len(found) > 1:
        guard.say_once(
            "journey_several", f"{len(found)} journeys are open there: the one used last is taken; name= says which"
        )
    return found[-1] if found else None


def _go_on(store: Store, call: Call) -> None:
    """Add the step, or the end, to the journey; a step after its end to a new one."""
    journey = call.journey
    for _ in range(_MAX_AFTER):
        document = _change(store, call, lambda known: _changed(known or _new(call), call))
        if document["ended_by"] == call.id:
            _close(store, document)
        if not _is_over(document, call):
            break
        if "next" not in document:
            guard.say_once("journey_ended", f"complete_journey: {document['name']!r} has ended before; left out")
            return
        guard.say_once("journey_after", f"{document['name']!r} goes on after its end: as a new one, marked as implicit")
        journey.id, journey.started = document["next"], None
    if call.step is not None:
        with _in_trace(call.place):
            metrics.count("journey.step", name=document["name"], step=call.step)
    if document["outcome"] is None:
        _note_open(store, document, call.at)


def _changed(document: Document, call: Call) -> Document:
    deadline = document["started"] + document["timeout_s"]
    if document["outcome"] is None and call.at > deadline:
        _end(document, call.id, "abandoned", deadline)
    if _is_over(document, call):
        if call.step is not None:
            document.setdefault("next", call.id)
    elif call.step is not None:
        _add(document, call)
    elif document["outcome"] is None:
        document["final"] = _scrubbed(call)
        _end(document, call.id, str(call.outcome), call.at)
    document["user"] = document["user"] or call.journey.user
    return document


def _is_over(document: Document, call: Call) -> bool:
    """Had the journey ended when the call was made? (Calls arrive in any order.)"""
    return document["outcome"] is not None and call.at > document["ended"]


def _new(call: Call) -> Document:
    journey = call.journey
    if not call.is_start and journey.started is not None:  # its start is on its way, or in another process's memory
        needs_sharing()
    return {
        "id": journey.id,
        "name": journey.name,
        "user": journey.user,
        "implicit": journey.started is None,
        # Of a journey that nobody started, the first step is the start.
        "started": journey.started or call.at,
        "timeout_s": journey.timeout_s or _DEFAULT_TIMEOUT_S,
        "steps": [],
        "left_out": 0,
        "outcome": None,
        "ended": None,
        "ended_by": None,
    }


def _add(document: Document, call: Call) -> None:
    steps: list[Document] = document["steps"]
    if any(step["id"] == call.id for step in steps):
        return
    if len(steps) >= MAX_STEPS:
        document["left_out"] += 1
        return
    steps.append({"id": call.id, "step": call.step, "at": call.at, "data": _scrubbed(call), "place": call.place})
    steps.sort(key=lambda step: float(step["at"]))


def _end(document: Document, by: str, outcome: str, at: float) -> None:
    document.update(outcome=outcome, ended=at, ended_by=by)


def _change(store: Store, call: Call, function: Callable[[Document | None], Document]) -> Document:
    lasts = call.journey.timeout_s or _DEFAULT_TIMEOUT_S
    return store.change(_key(call.journey.id), function, lasts + _KEEP_S) or {}


def _key(journey_id: str | None) -> str:
    return f"journey:{journey_id}"


def _scrubbed(call: Call) -> Document:
    current = runtime.get()
    return dict(scrub(call.data, pii=current is not None and current.settings.send_default_pii))


def _note_open(store: Store, document: Document, at: float) -> None:
    """Make the journey findable for its user, and see to it that its end is noticed."""
    lasts = float(document["timeout_s"])
    store.schedule(_DUE, document["id"], document["started"] + lasts, _LONGEST_S)
    if document["user"] is None:
        _note_anonymous(document)
        return

    def note(known: Document | None) -> Document:
        known = known or {}
        known.pop(document["id"], None)
        known[document["id"]] = [document["name"], at]
        return dict(list(known.items())[-MAX_OPEN:])

    store.change(f"journeys-of:{document['user']}", note, _LONGEST_S)  # others in it may last longer than this one


def _note_anonymous(document: Document) -> None:
    if len(_anonymous) >= _MAX_ANONYMOUS:
        _anonymous.clear()
    known = _anonymous.setdefault(document["name"], {})
    known.pop(document["id"], None)
    known[document["id"]] = None
    if len(known) > _MAX_ANONYMOUS:
        del known[next(iter(known))]


def _close(store: Store, document: Document) -> None:
    """The journey has ended just now: measure it."""
    store.unschedule(_DUE, document["id"])
    if document["user"] is None:
        _anonymous.get(document["name"], {}).pop(document["id"], None)
    else:
        key = f"journeys-of:{document['user']}"
        store.change(key, lambda known: _without(known, document["id"]), _LONGEST_S)
    steps = document["steps"]
    name, outcome = document["name"], document["outcome"]
    for step, lasted in zip(steps, summary(document)["durations_s"], strict=True):
        with _in_trace(step["place"]):
            metrics.distribution("journey.step.duration", lasted, "s", name=name, step=step["step"])
    with _in_trace(steps[-1]["place"] if steps else (0, 0)):
        metrics.count("journey.completed", name=name, outcome=outcome)
        metrics.distribution("journey.duration", summary(document)["duration_s"], "s", name=name, outcome=outcome)
        if outcome != "completed":
            metrics.count("journey.drop_off", name=name, step=steps[-1]["step"] if steps else "start")


def _without(known: Document | None, journey_id: str) -> Document | None:
    return {key: value for key, value in (known or {}).items() if key != journey_id} or None


def _sweep(store: Store) -> None:
    """Notice the journeys that nobody completed in time: a few of them, now and then, whenever there is a call."""
    global _next_sweep
    now = time.time()
    if now < _next_sweep and not _overdue:
        return
    _next_sweep = now + _SWEEP_EVERY_S
    if not _overdue:
        _overdue.extend(store.due(_DUE, now, _SWEEP_AT_ONCE))
    while _overdue:
        _abandon(store, _overdue[0], now)  # stays where it is if the store is away
        _overdue.popleft()


def _abandon(store: Store, journey_id: str, now: float) -> None:
    by = f"sweep:{journey_id}"
    document = store.load(_key(journey_id))
    if document is None or (document["outcome"] is not None and document["ended_by"] != by):
        return

    def change(known: Document | None) -> Document | None:
        if known is not None and known["outcome"] is None:
            _end(known, by, "abandoned", min(now, known["started"] + known["timeout_s"]))
        return known

    document = store.change(_key(journey_id), change, _KEEP_S)
    if document is not None and document["ended_by"] == by:
        _close(store, document)


def _link_later(call: Call, document: Document) -> None:
    """Now that it is known which journey this is, the span is described and joined to the step before.

    One that has ended meanwhile takes nothing more.
    """
    span: Any = call.span
    if span is None or not span.is_recording():
        return
    earlier = [step["place"] for step in document["steps"] if step["place"][0] and step["at"] < call.at]
    with guard.block("journey link"):
        span.set_attributes({"journey.id": document["id"], "journey.name": document["name"]})
        if earlier:
            journeys.link(span, tuple(earlier[-1]))


@contextmanager
def _in_trace(place: Any) -> Iterator[None]:
    """Measurements made inside belong to the step's span."""
    trace_id, span_id = place
    span = trace.NonRecordingSpan(trace.SpanContext(trace_id, span_id, is_remote=False))
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)


def summary(document: Document) -> dict[str, Any]:
    """A journey for people: name, outcome (None: under way), its duration and that of each step, in seconds."""
    times = [document["started"], *(step["at"] for step in document["steps"])]
    ended = document["ended"]
    return {
        "id": document["id"],
        "name": document["name"],
        "outcome": document["outcome"],
        "implicit": document["implicit"],
        "steps": [step["step"] for step in document["steps"]],
        # Times of several hosts: their clocks differ.
        "durations_s": [max(0.0, later - earlier) for earlier, later in itertools.pairwise(times)],
        "duration_s": max(0.0, ended - times[0]) if ended is not None else None,
    }


def read(limit: int = 100) -> list[dict[str, Any]]:
    """Journeys that the store knows of, at most *limit*, as `summary` has them, the latest last.

    Asks the store on this thread: for commands and tests, not for an application's requests.
    """
    store = get()
    documents = [store.load(name) for name in store.names("journey:", limit)]
    return [summary(one) for one in sorted(filter(None, documents), key=lambda one: float(one["started"]))]
