"""Release health: how many requests of a release went well, met an error or crashed, by minute.

One session per SERVER local root, whether its trace is sampled or not, as sentry_sdk counts them in its "request" mode
(develop docs, "Sessions"): `Session` and `SessionFlusher` of sentry_sdk are the reference for statuses and format. They
leave as one ``sessions`` item, before spans, once a minute at most, and at flush and exit; a forked child starts at 0.

On a `TracerProvider` of the application's own, roots that its sampler drops are not seen, and not counted.
"""

from __future__ import annotations

import _thread
import os
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from otel_sentry import guard, runtime
from otel_sentry.sentry import sender
from otel_sentry.sentry.errand import Errand

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.runtime import Runtime
    from otel_sentry.trace.segment import Segment

EXITED, ERRORED, CRASHED = "exited", "errored", "crashed"

_INTERVAL_S = 60.0
_MINUTE_NS = 60 * 10**9
#: Requests that began in so many different minutes, and ended since the last item, are sent off at once.
MAX_BUCKETS = 1000

#: (minute since the epoch, status) -> sessions since the last item. A count is read and written without a call in
#: between, so threads need no lock (as in `counters`).
_counts: defaultdict[tuple[int, str], int] = defaultdict(int)
#: Until this time (nanoseconds since the epoch) somebody is sure to send what is counted; 0: nobody is.
_covered_until = 0


def count(segment: Segment, root: ReadableSpan) -> None:
    """*root* has ended: one session more, if it was a request that this process served."""
    if root.kind is not SpanKind.SERVER:
        return
    end = root.end_time or 0
    _counts[(root.start_time or end) // _MINUTE_NS, segment.health] += 1
    if end >= _covered_until or len(_counts) > MAX_BUCKETS:
        _cover(end)


def note(event: Mapping[str, Any], segment: Segment | None) -> None:
    """An error event was made in *segment*: exceptions and messages from level error on; crashed if unhandled."""
    if segment is None or segment.health == CRASHED:
        return
    exceptions = (event.get("exception") or {}).get("values") or ()
    for exception in exceptions:
        mechanism = exception.get("mechanism") if isinstance(exception, Mapping) else None
        if isinstance(mechanism, Mapping) and mechanism.get("handled") is False:
            segment.health = CRASHED
            return
    if exceptions or event.get("level") in ("error", "fatal"):
        segment.health = ERRORED


def note_crash(segment: Segment | None) -> None:
    """An exception that was reported before ended the request."""
    if segment is not None:
        segment.health = CRASHED


@guard.call("release health")
def _cover(now: int) -> None:
    """See to it that somebody sends the counts: a timer on the sender's thread, or the first request after a minute."""
    global _covered_until
    current = runtime.get()
    if current is None or current.sender is None:
        _counts.clear()
        return
    overdue = _covered_until != 0
    _covered_until = now + _MINUTE_NS
    if overdue:
        send()
    elif type(_thread.allocate_lock()).__module__ == "_thread":
        # Not under gevent: a greenlet that waits for a minute would keep its loop, and so a worker's end, waiting.
        current.sender.put(Errand(send, _INTERVAL_S))


@guard.call("release health")
def send() -> None:
    """Queue what was counted since the last time."""
    global _covered_until
    _covered_until = 0  # first, so that who counts from here on sees to the next item
    counts = _take()
    current = runtime.get()
    if not counts or current is None or current.sender is None or not _wanted(current):
        return
    from otel_sentry.sentry.envelope import dumps, envelope

    attrs = {"release": current.settings.release, "environment": current.settings.environment}
    payload = dumps({"attrs": attrs, "aggregates": aggregates(counts)})
    made = envelope("sessions", payload, (("session", sum(counts.values())),))
    current.sender.put(sender.Ready(made), urgent=True)


def aggregates(counts: Mapping[tuple[int, str], int]) -> list[dict[str, Any]]:
    """``[{"started": minute, "exited": 3, "crashed": 1}, ...]``, oldest first."""
    by_minute: dict[int, dict[str, Any]] = {}
    for (minute, status), quantity in sorted(counts.items()):
        if minute not in by_minute:
            started = datetime.fromtimestamp(minute * 60, timezone.utc)
            by_minute[minute] = {"started": started.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        by_minute[minute][status] = quantity
    return list(by_minute.values())


def _take() -> dict[tuple[int, str], int]:
    """Empty the counts, safe against concurrent counting."""
    taken: dict[tuple[int, str], int] = {}
    while _counts:
        try:
            key, quantity = _counts.popitem()
        except KeyError:
            break
        taken[key] = taken.get(key, 0) + quantity
    return taken


def _wanted(current: Runtime) -> bool:
    settings = current.settings
    if current.dsn is None or not settings.release or not settings.auto_session_tracking:
        return False
    if settings.take_over_init:
        return True
    from otel_sentry.sentry.takeover import is_left_alone

    return not is_left_alone(current)  # then sentry_sdk's own integrations count


def reset() -> None:
    """Forget what was counted (a forked child, tests)."""
    global _covered_until
    _counts.clear()
    _covered_until = 0


def _before_flush(closing: bool) -> None:
    send()


sender.before_flush.append(_before_flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)
