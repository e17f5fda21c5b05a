"""From the application's threads to one exporter: a bounded queue and a thread of its own.

`put` never waits and takes no lock around a change of state: spans end under the garbage collector, in signal handlers
and in gevent's hub. The thread starts at the first put, and anew in a forked child.
"""

from __future__ import annotations

import _thread
import os
import threading  # noqa: F401 - or our thread is the first to import it, and becomes its main thread
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from otel_sentry import guard
from otel_sentry.backends.outlet import AGAIN, Outlet, say_losses

#: A batch that failed so often is lost; with the pauses between that is after one to two minutes.
MAX_TRIES = 6
#: Seconds that a flush waits for a backend that was away the last time.
TRYING_S = 0.25
_POLL_S = 0.005

#: Every queue of this process.
queues: list[Queue] = []


class _Run:
    """One thread's term of office."""

    def __init__(self) -> None:
        self.wake = _thread.allocate_lock()  # a binary semaphore: held while there is nothing new
        self.wake.acquire()
        self.current: deque[list[Any]] = deque()  # what is in flight; who pops it accounts for it


class Queue:
    """Items for *outlet*.

    Args:
        outlet: gets the batches.
        prepare: item -> what the exporter takes, called on the queue's thread; what it raises on is lost, and counted.
        size: items that wait at most; beyond it the oldest are lost, and counted.
        batch: items of one export.
        interval: seconds that an item waits for others at most.

    """

    def __init__(
        self, outlet: Outlet, prepare: Callable[[Any], Any], *, size: int, batch: int = 512, interval: float = 5.0
    ) -> None:
        self.outlet = outlet
        self._prepare = prepare
        self._size = size
        self._batch = min(batch, size)
        self._interval = interval
        self._closed = False
        self._reset()
        queues.append(self)
        ref = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _after_fork(ref()))

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._items: deque[Any] = deque()
        self._run: _Run | None = None
        self._may_start = deque([True])  # who pops it starts the thread
        self._first_at = 0.0  # when the oldest waiting item came, about
        self._tries = 0
        self._forcing = 0
        self._busy = False
        self._idle = False  # the thread waits for a put

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Any) -> None:
        """Queue *item*. Never waits."""
        if self._pid != os.getpid():
            _after_fork(self)
        if self._closed:
            self.outlet.lose("exit")
            return
        items = self._items
        if len(items) >= self._size:
            try:
                items.popleft()
                self.outlet.lose("queue_full")
            except IndexError:
                pass
        if not items:
            self._first_at = time.monotonic()
        items.append(item)
        run = self._run
        if run is None:
            self._start()
        elif self._idle or (len(items) >= self._batch and not self._busy):
            _wake(run)

    def force_flush(self) -> bool:
        """`flush`, for whoever bounds the time himself."""
        return self.flush(30.0)

    def flush(self, timeout: float) -> bool:
        """Export what waits; False when that took longer than *timeout* seconds, or the backend is away."""
        if self._pid != os.getpid():
            _after_fork(self)
        patience = timeout if not self.outlet.failures else min(timeout, TRYING_S)
        deadline = time.monotonic() + patience
        self._forcing += 1
        try:
            while self._items or self._busy:
                if time.monotonic() >= deadline or (self.outlet.paused_s and not self._busy):
                    return False
                if self._run is None and not self._start():
                    return False
                if self._run is not None and not self._busy:
                    _wake(self._run)
                time.sleep(_POLL_S)
        except AssertionError:  # gevent's hub can't wait
            return False
        finally:
            self._forcing -= 1
        return True

    def shutdown(self, timeout: float = 30.0) -> None:
        """`flush`, and stop. Idempotent. What is left is counted (`account`)."""
        if not self._closed:
            self.flush(timeout)
            self.account()
            self.outlet.close()

    def account(self) -> None:
        """The end: whatever has not left is lost."""
        self._closed = True
        run, self._run = self._run, None
        left = len(self._items)
        self._items.clear()
        if run is not None:
            left += sum(len(batch) for batch in _claim(run))
            _wake(run)
        self.outlet.lose("exit", left)

    def _start(self) -> bool:
        try:
            self._may_start.pop()
        except IndexError:
            return True
        run = self._run = _Run()
        try:
            _thread.start_new_thread(self._main, (run,))
        except RuntimeError:  # out of threads, or the interpreter is going down
            self._run = None
            self._may_start.append(True)
            return False
        return True

    def _main(self, run: _Run) -> None:
        """The thread."""
        with _suppressed():
            while self._run is run:
                with guard.block(f"backend {self.outlet.name}"):
                    self._wait_or_export(run)

    def _wait_or_export(self, run: _Run) -> None:
        pause = self._due()
        if pause is None:
            self._idle = True
            if not self._items and self._run is run:  # looked at again: a put before the line above wakes nobody
                run.wake.acquire()
            self._idle = False
        elif pause > 0:
            run.wake.acquire(True, pause)
        else:
            self._export(run)

    def _due(self) -> float | None:
        """Seconds until the next export; None: nothing waits."""
        waiting = len(self._items)
        if not waiting:
            return None
        paused = self.outlet.paused_s
        if paused or waiting >= self._batch or self._forcing:
            return paused
        return max(0.0, self._first_at + self._interval - time.monotonic())

    def _export(self, run: _Run) -> None:
        self._busy = True
        try:
            taken = self._take()
            run.current.append(taken)
            pairs = [(item, clean) for item in taken if (clean := self._clean(item)) is not None]
            outcome = self.outlet.send([clean for _, clean in pairs], len(pairs)) if pairs else ""
            if not _claim(run):  # closed, or forked, meanwhile: it is accounted for
                return
            self.outlet.lose("fault", len(taken) - len(pairs))
            if outcome is AGAIN:
                self._put_back([item for item, _ in pairs])
            else:
                self._tries = 0
        finally:
            self._first_at = time.monotonic()
            self._busy = False

    def _put_back(self, items: list[Any]) -> None:
        self._tries += 1
        if self._tries >= MAX_TRIES:
            self._tries = 0
            self.outlet.lose("unreachable", len(items))
            return
        room = max(0, self._size - len(self._items))
        kept = items[max(0, len(items) - room) :]
        self._items.extendleft(reversed(kept))
        self.outlet.lose("queue_full", len(items) - len(kept))

    def _take(self) -> list[Any]:
        taken: list[Any] = []
        while len(taken) < self._batch:
            try:
                taken.append(self._items.popleft())
            except IndexError:
                break
        return taken

    def _clean(self, item: Any) -> Any:
        with guard.block(f"preparing {self.outlet.signal} for {self.outlet.name}"):
            return self._prepare(item)
        return None


def _after_fork(queue: Queue | None) -> None:
    """In a forked child: the parent sends what waited."""
    if queue is not None and queue._pid != os.getpid():
        queue._reset()
        queue.outlet.reset()


def _wake(run: _Run) -> None:
    try:
        run.wake.release()
    except (RuntimeError, ValueError):  # it was not held: a wake-up is under way
        pass


def _claim(run: _Run) -> list[list[Any]]:
    try:
        return [run.current.pop()]
    except IndexError:
        return []


def _suppressed() -> AbstractContextManager[None]:
    from otel_sentry.sentry.http import suppressed

    return suppressed()


def account() -> None:
    """At exit, when time is over: count what has not left, and say it, a line for each backend that lost something."""
    for queue in queues:
        queue.account()
    say_losses()


def number(variable: str, default: float) -> float:
    """One of OpenTelemetry's own variables; what is no positive number is the default."""
    try:
        found = float(os.environ.get(variable, ""))
    except ValueError:
        return default
    return found if found > 0 else default
