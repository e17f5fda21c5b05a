"""Business work off the caller's thread: one bounded queue, one thread. Store access and alert sinks run here.

`submit` is called anywhere: in signal handlers, under the garbage collector, in a forked child, at exit. So it takes no
lock and never waits. Work that finds the store away (`Unavailable`) is done again later, in its old order.
"""

from __future__ import annotations

import _thread
import os
import threading  # noqa: F401 - or our thread is the first to import it, and becomes its main thread
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from otel_sentry import counters, guard

#: Calls that wait, those put off included.
MAX_WAITING = 10_000
_POLL_S = 0.002
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_REASON, _CATEGORY = "queue_overflow", "business"

_Job = tuple[Callable[..., Any], tuple[Any, ...]]


class Unavailable(Exception):
    """The store can't be reached just now. The call that raises it is made again, with the same arguments."""


class _State:
    """One process's queue. Only deques and single assignments change, so that every thread may look on."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.jobs: deque[_Job] = deque()
        self.aside: deque[_Job] = deque()  # met `Unavailable`
        self.due = 0.0  # monotonic time at which they are tried again
        self.pause = _FIRST_PAUSE_S
        self.failures = 0  # rounds of trying that ended with `Unavailable`
        self.busy = False
        self.awake = False  # it has been woken, or has not gone to sleep yet
        self.probing = False  # what was put off is being tried again
        self.wake: Any = None  # the thread's: a binary semaphore, held while there is nothing new
        self.may_start = deque([True])  # who pops it is the thread

    def waiting(self) -> int:
        return len(self.jobs) + len(self.aside)


_state = _State()


def submit(function: Callable[..., Any], *args: Any) -> bool:
    """Call ``function(*args)`` on the worker, soon; False (and counted) where too many calls wait.

    *function* runs inside the guard, outside of any trace, with instrumentation suppressed. Where it raises
    `Unavailable` it is called again later: what must not happen twice comes after the store has been asked.
    """
    state = _current()
    if state.waiting() >= MAX_WAITING:
        counters.lost(_REASON, _CATEGORY)
        guard.say_once("business_queue", f"{MAX_WAITING} business calls wait for the store: further ones are lost")
        return False
    state.jobs.append((function, args))
    if state.may_start:
        _start(state)
    elif not state.awake:
        _wake(state)
    return True


def flush(timeout: float) -> bool:
    """Do what waits, within *timeout* seconds. False when something is left: time ran out, or the store is away.

    Where no thread can be started any more (at interpreter exit, from 3.12 on) the caller's does the work.
    """
    state = _current()
    deadline = time.monotonic() + timeout
    failures, state.due = state.failures, 0.0
    if state.may_start and state.waiting() and not _start(state):
        _work_here(state, deadline)
    try:
        while state.busy or state.waiting():
            if time.monotonic() >= deadline or (state.failures > failures and not (state.busy or state.jobs)):
                return False
            _wake(state)
            time.sleep(_POLL_S)
    except AssertionError:  # gevent's hub can't wait, and its greenlets run only after us
        return False
    return True


def close(timeout: float) -> None:
    """`flush`, for the last time: what is left is counted as lost, and one line says so."""
    if flush(timeout):
        return
    left = _state.busy + _drop()
    counters.lost("network_error", _CATEGORY, left)
    if left:
        guard.say(f"business calls lost: {left} (the store was away, or time ran out)")


def probing() -> bool:
    """Is the call that runs now one that met `Unavailable` before? Then the store is really asked again."""
    return _state.probing


def queue() -> object:
    """What `submit` puts calls into; another one after a fork, and after `close` has dropped some."""
    return _state


def _drop() -> int:
    global _state
    state, _state = _state, _State()
    count = state.waiting()
    state.jobs.clear()
    state.aside.clear()
    _wake(state)  # its thread ends
    return count


def _current() -> _State:
    global _state
    if _state.pid != os.getpid():  # a fork that Python did not see; the child starts empty
        _state = _State()
    return _state


def _start(state: _State) -> bool:
    try:
        state.may_start.pop()
    except IndexError:
        return True
    state.wake = _thread.allocate_lock()  # not earlier: gevent's, where that has patched meanwhile
    state.wake.acquire()
    try:
        _thread.start_new_thread(_main, (state,))
    except RuntimeError:  # out of threads, or the interpreter is going down
        state.may_start.append(True)
        return False
    return True


def _main(state: _State) -> None:
    """The thread."""
    try:
        with _suppressed():
            while _state is state:
                with guard.block("business worker"):
                    _work(state, float("inf"))
                    _wait(state)
    finally:
        state.busy = False
        state.may_start.append(True)


def _work_here(state: _State, deadline: float) -> None:
    try:
        state.may_start.pop()
    except IndexError:
        return
    try:
        with _suppressed():
            _work(state, deadline)
    finally:
        state.busy = False
        state.may_start.append(True)


def _work(state: _State, deadline: float) -> None:
    """Do all that can be done now; what was put off comes first, in its order."""
    state.busy = True
    while time.monotonic() < deadline:
        is_second = bool(state.aside) and time.monotonic() >= state.due
        try:
            job = (state.aside if is_second else state.jobs).popleft()
        except IndexError:
            break
        state.probing = is_second
        if _done(job):
            state.pause = _FIRST_PAUSE_S
        elif is_second or not state.aside:
            state.aside.appendleft(job)
            _put_off(state)
        else:
            state.aside.append(job)
    state.busy = state.probing = False


def _put_off(state: _State) -> None:
    state.failures += 1
    state.due = time.monotonic() + state.pause
    state.pause = min(state.pause * 2, _LONGEST_PAUSE_S)


def _done(job: _Job) -> bool:
    """Make the call; False where it has to be made again. A fault of its own counts as lost, and is done."""
    function, args = job
    finished = again = False
    with guard.block("business call"):
        try:
            function(*args)
        except Unavailable:
            again = True
        finished = True
    if not finished:
        counters.lost("internal_sdk_error", _CATEGORY)
    return not again


def _wait(state: _State) -> None:
    """Sleep until a `submit`, a flush, or the next try."""
    state.awake = False  # first: who puts something down from now on wakes us
    if state.jobs:
        return
    if state.aside:
        state.wake.acquire(True, max(0.0, state.due - time.monotonic()))
    else:
        state.wake.acquire()


def _wake(state: _State) -> None:
    state.awake = True
    try:
        state.wake.release()
    except (RuntimeError, ValueError, AttributeError):  # it was not held: a wake-up is under way; or no thread yet
        pass


def _suppressed() -> Any:
    from otel_sentry.sentry import http

    return http.suppressed()


def _after_fork() -> None:
    global _state
    _state = _State()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
