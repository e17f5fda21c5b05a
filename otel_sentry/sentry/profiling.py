"""Profiles of segments, by sentry_sdk's continuous profiler (decision 29; the only profiler that 3.0 has).

It samples all threads of the process, 101 times a second, into chunks that sentry_sdk makes and our transport sends; a
transaction only names the profiler's id. So segments that overlap share one profiler: it runs while any segment that
was drawn is open, and at most `_TEND_S` longer.

All that can take time happens on the sender's thread: importing sentry_sdk (0.4 s; the segments until then have no
profile), starting a thread, and stopping, which waits for that thread and for its last chunk. One thread for all of it
also keeps a start from overtaking a stop, which sentry_sdk's profiler does not survive: two samplers would run for good
[read, 2.75 and 3.0.0b2]. Under gevent the sender is a greenlet: the import holds up all others once per process.
"""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from otel_sentry import guard, runtime
from otel_sentry.sentry import sender
from otel_sentry.sentry.errand import Errand

if TYPE_CHECKING:
    from otel_sentry.runtime import Runtime
    from otel_sentry.sentry.compat import Profiler
    from otel_sentry.trace.segment import Segment

#: How often (seconds) to see whether the profiler is still needed.
_TEND_S = 1.0
#: A segment that is open for longer no longer keeps the profiler running (seconds).
_MAX_S = 600.0
#: Segments at a time that have a profile, and spans of one whose thread is noted.
_MAX_ACTIVE = 1000
_MAX_THREADS = 10_000
_RANDOM_RANGE = 2**32


class Profile:
    """What a segment knows of its profile: the profiler's id, once it runs, and the thread that each span began on."""

    __slots__ = ("profiler_id", "since", "threads")

    def __init__(self) -> None:
        self.profiler_id: str | None = None
        self.since = time.monotonic()
        self.threads: dict[int, tuple[Any, Any]] = {}

    def note_thread(self, span_id: int) -> None:
        """A span of the segment begins here."""
        if _profiler is not None and len(self.threads) < _MAX_THREADS:
            self.threads[span_id] = _profiler.thread()


_importing = threading.RLock()
_active: dict[int, Profile] = {}
_profiler: Profiler | None = None
_asked = False  # the sender's thread has been asked to load the profiler
_running = False  # started by us in this process, and not being stopped
_last_end = 0.0
_tended_at: float | None = None  # when the profiler will be looked after next; None: nobody will
_closing = False  # the next look is the last
_whole_process: bool | None = None  # None: not drawn yet


@guard.call("profile start")
def begin(segment: Segment) -> None:
    """A sampled segment begins: it gets a profile, or not. Costs a look at the settings where profiling is off."""
    current = runtime.get()
    if current is None or current.sender is None or not _is_drawn(segment, current):
        return
    if _profiler is None:
        _ask_for_profiler(current)
        return
    if len(_active) >= _MAX_ACTIVE:
        return
    profile = segment.profile = Profile()
    _active[segment.span_id] = profile  # before the look at `_running`: see `_stop`
    if _running:
        profile.profiler_id = _profiler.profiler_id()
    if profile.profiler_id is None:
        current.sender.put(Errand(_start), urgent=True)


@guard.call("profile end")
def end(segment: Segment) -> None:
    """A segment with a profile has ended."""
    global _last_end
    _last_end = time.monotonic()
    _active.pop(segment.span_id, None)
    if _running and (_tended_at is None or _last_end > _tended_at + 5):  # evicted from a full queue
        _tend_later()


def add_to(event: dict[str, Any], profile: Profile) -> None:
    """Name the profiler on a transaction, and on it and its spans the threads, which join them to the samples."""
    if profile.profiler_id is None:
        return
    event["contexts"]["profile"] = {"profiler_id": profile.profiler_id}
    for fields in (event["contexts"]["trace"], *event["spans"]):
        ident, name = profile.threads.get(int(fields["span_id"], 16), (None, None))
        if ident is not None:
            fields["data"].setdefault("thread.id", str(ident))
        if name is not None:
            fields["data"].setdefault("thread.name", str(name))


def _is_drawn(segment: Segment, current: Runtime) -> bool:
    settings = current.settings
    if settings.profile_session_sample_rate and _draw_process(settings.profile_session_sample_rate):
        return True
    rate = settings.profiles_sample_rate
    return bool(rate) and (rate >= 1.0 or fraction(segment) < rate)


def fraction(segment: Segment) -> float:
    """0 to 1, the same for all segments of a trace, and independent of whether it is sampled."""
    rate, rand = segment.decision.sample_rate, segment.decision.sample_rand
    if rate and rand is not None and rand < rate:
        return rand / rate  # a trace is sampled where rand < rate: what is left is uniform again
    # Neither the low bits, which trace-id samplers use, nor the high ones, which may be a time.
    return (segment.trace_id >> 64) % _RANDOM_RANGE / _RANDOM_RANGE


def _draw_process(rate: float) -> bool:
    """Is this process one of those that run the profiler all the time?"""
    global _whole_process
    if _whole_process is None:
        # Not the module's own generator: a program that seeds it must get the same numbers with us as without.
        _whole_process = random.SystemRandom().random() < rate
    return _whole_process


def _ask_for_profiler(current: Runtime) -> None:
    global _asked
    if not _asked and current.sender is not None:
        _asked = True
        current.sender.put(Errand(_load))


# On the sender's thread


@guard.call("profiler")
def _load() -> None:
    """Initialise sentry_sdk and take its profiler; without one there are no profiles, and one line under debug."""
    global _profiler
    with _importing:
        import sentry_sdk

        from otel_sentry.sentry import client, compat, takeover

        if client.ensure() and takeover.is_ours(sentry_sdk.get_client()):
            _profiler = compat.profiler()
    if _profiler is None:
        guard.debug("no profiles: this sentry_sdk has no continuous profiler that we can start and stop")


@guard.call("profiler")
def _start() -> None:
    """Start the profiler, if it does not run, for the segments that wait for it."""
    global _running
    waiting = [profile for profile in list(_active.values()) if profile.profiler_id is None]
    if _profiler is None or not waiting:
        return
    _profiler.start()
    profiler_id = _profiler.profiler_id()
    if profiler_id is None:  # out of threads
        return
    _running = True
    for profile in waiting:
        profile.profiler_id = profiler_id
    _tend_later()


def _tend_later() -> None:
    global _tended_at
    current = runtime.get()
    if current is not None and current.sender is not None:
        _tended_at = time.monotonic() + _TEND_S
        current.sender.put(Errand(_tend, _TEND_S))


@guard.call("profiler")
def _tend() -> None:
    """Stop the profiler when nobody has needed it for a while; in a flush as soon as nobody needs it."""
    global _tended_at, _closing
    now = time.monotonic()
    forced = _tended_at is not None and now < _tended_at
    closing, _closing, _tended_at = _closing, False, None
    if not _running:
        return
    for span_id, profile in list(_active.items()):
        if now - profile.since > _MAX_S:
            _active.pop(span_id, None)
    wanted = bool(_active) or bool(_whole_process)
    if closing or not (wanted or (not forced and now - _last_end < _TEND_S)):
        _stop(closing)
    elif not forced:  # a flush would take it again and again; the next segment's end sees to it
        _tend_later()


def _stop(closing: bool) -> None:
    """Stop unless a segment has come meanwhile: it is in `_active` before it looks at `_running`."""
    global _running
    _running = False
    if _active and not closing:
        _running = True
        _tend_later()
    elif _profiler is not None:
        _profiler.stop()


@guard.call("profiler")
def _before_flush(closing: bool) -> None:
    """Stop, if nobody needs it, so that the chunk leaves with this flush; at the end whoever needs it."""
    global _closing
    if _running:
        _closing = closing
        if closing or _tended_at is None:
            _tend_later()


def _before_fork() -> None:
    """A child made while another thread imports a module can never import it: wait a little for `_load`."""
    if _importing.acquire(timeout=2.0):
        _importing.release()


def reset() -> None:
    """Nothing runs here (a forked child, tests)."""
    global _asked, _running, _tended_at, _whole_process, _profiler, _closing, _importing
    _active.clear()
    _asked = _running = _closing = False
    _tended_at = _whole_process = _profiler = None
    _importing = threading.RLock()


sender.before_flush.append(_before_flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=reset)
