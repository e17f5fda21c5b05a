"""The one way out to Sentry: a bounded queue, one thread, one kept connection (decision 11).

`put` is called wherever telemetry ends: on the application's threads, under the garbage collector, in signal
handlers, in gevent's hub. So nothing here takes a lock around a change of state, and a put never waits.
``time.sleep``, ``_thread.start_new_thread`` and the like are looked up when they are used, so that gevent's
patch counts even when it comes later. Promises are at-least-once (decision 33): when an answer gets lost, the
envelope is sent again.
"""

from __future__ import annotations

import _thread
import os
import threading  # noqa: F401 - or our thread is the first to import it, and becomes its main thread [ran]
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from otel_sentry import counters, guard
from otel_sentry.sentry import http
from otel_sentry.sentry.delivery import DELIVERED, LOST, REFUSED, REPORT_ALONE_S, RETRY, Delivery, Target
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.sentry.lanes import Lane, Lanes
from otel_sentry.sentry.outgoing import Categories, Envelope, Ledger, Outgoing, Ready
from otel_sentry.sentry.ratelimit import Backpressure

__all__ = ["Categories", "Envelope", "Outgoing", "Ready", "Sender", "Stats", "Target", "sentry_target"]

_POLL_S = 0.002
#: Called when a flush begins, with "is it the last?": who holds something back puts it into the queue now.
before_flush: list[Callable[[bool], None]] = []


def sentry_target(dsn: Dsn) -> Target:
    """The target that *dsn* names."""
    return Target(dsn.envelope_url, {"X-Sentry-Auth": dsn.auth_header})


class Stats(NamedTuple):
    """What a sender did so far; counts by category."""

    delivered: Mapping[str, int]
    refused: Mapping[str, int]  # answered 429: the server counts those itself, client reports don't
    queued: int
    queued_bytes: int
    posts: int  # answers received from the primary target


class _Run:
    """One thread's term of office. It ends when it is no longer the sender's `_run`."""

    def __init__(self) -> None:
        self.wake = _thread.allocate_lock()  # a binary semaphore: held while there is nothing new
        self.wake.acquire()
        self.current: deque[Outgoing] = deque()  # what is in flight; who pops it accounts for it


class Sender:
    """Sends `Outgoing` items to *targets*, urgent ones first, from one thread that starts at the first `put`.

    *queue_size* (items) and *queue_bytes* bound what waits. *shutdown_timeout*, *connect_timeout* and
    *read_timeout* are seconds; the proxies (URLs) and *ca_certs* (path) are the settings of these names.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        queue_size: int = 1000,
        queue_bytes: int = 32_000_000,
        shutdown_timeout: float = 2.0,
        http_proxy: str | None = None,
        https_proxy: str | None = None,
        ca_certs: str | None = None,
        connect_timeout: float = 2.0,
        read_timeout: float = 5.0,
    ) -> None:
        def connect(url: str) -> http.Connection:
            timeouts = http.Timeouts(connect_timeout, read_timeout)
            return http.connect(url, timeouts, http_proxy=http_proxy, https_proxy=https_proxy, ca_certs=ca_certs)

        self._new_delivery: Callable[[], Delivery] = lambda: Delivery(targets, connect)
        self._bounds = (queue_size, queue_bytes)
        self._shutdown_timeout = shutdown_timeout
        self._closing = self._closed = False
        self._reset()
        ref = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _after_fork(ref()))

    def _reset(self) -> None:
        """State of a process that has sent nothing yet."""
        self._pid = os.getpid()
        self._lanes = Lanes(*self._bounds)
        self._delivery = self._new_delivery()
        self._ledger = Ledger()
        self._backpressure = Backpressure()
        self._run: _Run | None = None
        self._may_start = deque([True])  # who pops it starts the thread
        self._idle = False  # the thread waits for a put
        self._busy = False  # the thread holds, or is about to take, an item
        self._wake_at = inf
        self._forcing = 0  # flushes under way
        self._deadline = inf

    def put(self, item: Outgoing, urgent: bool = False, share: float = 1.0) -> bool:
        """Queue *item*; False when it was dropped (and counted). Never waits, and may interrupt itself.

        *share*: drop it when the queue is fuller than that: what is less important leaves room for the rest.
        """
        if self._pid != os.getpid():
            self._after_fork()
        if self._closed:
            self._ledger.lose(item, "queue_overflow", "it came after the end")
            return False
        if share < 1.0 and self._lanes.fill() > share:
            self._ledger.lose(item, "queue_overflow", "the queue was full")
            return False
        queued = True
        for gone in self._lanes.admit(item, urgent):
            self._ledger.lose(gone, "queue_overflow", "the queue was full")
            queued = queued and gone is not item
        run = self._run
        if run is None:
            self._start()
        elif self._idle and (urgent or item.not_before < self._wake_at):
            _wake(run)
        return queued

    def flush(self, timeout: float) -> bool:
        """Send all that is queued, also what waits for late children; True if that took at most *timeout* s.

        Where no thread can be started any more (at interpreter exit, from 3.12 on) the caller's sends.
        """
        if self._pid != os.getpid():
            self._after_fork()
        for prepare in before_flush:
            prepare(self._closing)
        if self._settled():
            return True
        deadline = time.monotonic() + timeout
        self._forcing += 1
        try:
            if self._run is None and not self._start():
                self._send_here(deadline)
            while not self._settled():
                if time.monotonic() >= deadline:
                    return False
                if self._run is not None and self._wakeable():
                    _wake(self._run)
                time.sleep(_POLL_S)
        except AssertionError:  # gevent's hub can't wait, and its greenlets run only after us
            return False
        finally:
            self._forcing -= 1
        return True

    def close(self, timeout: float | None = None) -> None:
        """`flush`, with a last client report, and stop; one line says what was not delivered. Idempotent.

        Takes *timeout* seconds at most (None: the shutdown timeout), whatever the network does.
        """
        if self._closing:
            return
        self._closing = True
        self._deadline = time.monotonic() + (self._shutdown_timeout if timeout is None else timeout)
        self.flush(self._deadline - time.monotonic())
        report = self._delivery.report(0.0) if time.monotonic() < self._deadline else None
        if report is not None:
            self.put(report, urgent=True)
            self.flush(self._deadline - time.monotonic())
        self._closed = True
        run, self._run = self._run, None
        left = self._lanes.clear()
        if run is not None:
            _wake(run)
            left += _claim(run)
        why = self._delivery.trouble if self._delivery.breaker.failures else "time ran out"
        for item in left:
            self._ledger.lose(item, "network_error", why)
        line = self._ledger.undelivered()
        if line:
            guard.say(line)

    @property
    def stats(self) -> Stats:
        """Counts so far."""
        ledger, lanes = self._ledger, self._lanes
        queued_bytes = max(lanes.bytes, 0)
        delivered, refused = dict(ledger.delivered), dict(ledger.refused)
        return Stats(delivered, refused, len(lanes), queued_bytes, self._delivery.posts)

    @property
    def healthy(self) -> bool:
        """Neither nearly full (90 %) nor under a rate limit that concerns traces."""
        return self._lanes.fill() <= 0.9 and not self._delivery.limits.tracing_limited(time.monotonic())

    @property
    def downsample_factor(self) -> int:
        """How often to halve the sample rate (0 to 10), by `healthy`; it changes every 10 s at most."""
        return self._backpressure.factor(time.monotonic(), lambda: self.healthy)

    def _settled(self) -> bool:
        return not (len(self._lanes) or self._busy)

    def _wakeable(self) -> bool:
        """Would the thread, woken now, have something to do for a flush?"""
        return not self._busy and time.monotonic() >= self._delivery.breaker.next_try(hurry=True)

    def _start(self) -> bool:
        """Start the thread unless somebody else is at it; False when there can't be one."""
        try:
            self._may_start.pop()
        except IndexError:
            return True
        run = self._run = _Run()
        try:
            _thread.start_new_thread(self._main, (run,))
        except RuntimeError:  # out of threads, or the interpreter is going down
            self._end(run)
            return False
        return True

    def _end(self, run: _Run) -> None:
        if self._run is run:
            self._run = None
            self._busy = self._idle = False
            self._may_start.append(True)

    def _main(self, run: _Run) -> None:
        """The thread."""
        try:
            with http.suppressed():
                while self._run is run:
                    with guard.block("sender.thread"):
                        self._work(run, inf)
                        self._wait(run)
        finally:
            self._end(run)

    def _send_here(self, deadline: float) -> None:
        """Do the thread's work on the caller's until all is sent or time is over."""
        try:
            self._may_start.pop()
        except IndexError:
            return
        run = self._run = _Run()
        self._deadline = min(self._deadline, deadline)
        try:
            with http.suppressed(), guard.block("sender.flush"):
                while len(self._lanes) and time.monotonic() < deadline and self._run is run:
                    self._work(run, deadline)
                    pause = min(self._delivery.breaker.next_try(hurry=True), deadline) - time.monotonic()
                    time.sleep(max(pause, 0.0))
        finally:
            self._end(run)

    def _work(self, run: _Run, deadline: float) -> None:
        """Send until nothing is ready, the server is away, or the *deadline* is over."""
        self._busy = True
        lanes, delivery = self._lanes, self._delivery
        while self._run is run:
            now = time.monotonic()
            if now >= deadline or now < delivery.breaker.next_try(self._forcing > 0):
                return
            taken = lanes.pop(now, self._forcing > 0)
            if taken is not None:
                self._deliver(run, *taken)
                continue
            report = delivery.report(REPORT_ALONE_S)
            if report is None:
                return
            lanes.admit(report, urgent=True)

    def _deliver(self, run: _Run, item: Outgoing, lane: Lane) -> None:
        lanes, ledger = self._lanes, self._ledger
        run.current.append(item)
        outcome = None
        with guard.block("sender.deliver"):
            outcome = self._delivery.attempt(item, self._deadline - time.monotonic())
        if not _claim(run):  # closed, or forked, meanwhile: it is accounted for
            return
        if outcome is not None and outcome.kind is RETRY and not self._closed:
            lanes.put_back(outcome.item, lane)
            return
        lanes.done(item.size)
        if outcome is None:
            ledger.lose(item, "internal_sdk_error", "a fault in otel-sentry")
        elif outcome.kind is DELIVERED:
            ledger.deliver(outcome.item.categories)
        elif outcome.kind is REFUSED:
            ledger.refuse(outcome.item.categories)
        elif outcome.kind in (LOST, RETRY):
            ledger.lose(outcome.item, outcome.reason, outcome.why)

    def _wait(self, run: _Run) -> None:
        """Sleep until a put, a flush, an item's time or the server's next chance."""
        lanes, force = self._lanes, self._forcing > 0
        now = time.monotonic()
        held = self._delivery.breaker.next_try(force)
        if held > now:
            self._busy = False
            run.wake.acquire(True, held - now)
            return
        self._wake_at = due = lanes.due
        self._idle = True
        self._busy = False
        if not lanes.waiting(force):
            timeout = min(due - now, _patience(run))
            run.wake.acquire(True, timeout if timeout < inf else -1)
        self._idle = False

    def _after_fork(self) -> None:
        """In a forked child: the parent sends what was queued, on its connection; the child starts empty."""
        self._delivery.abandon()
        counters.drain()
        self._reset()


def _after_fork(sender: Sender | None) -> None:
    if sender is not None:
        sender._after_fork()


def _wake(run: _Run) -> None:
    try:
        run.wake.release()
    except (RuntimeError, ValueError):  # it was not held: a wake-up is under way
        pass


def _claim(run: _Run) -> list[Outgoing]:
    """Take what is in flight out of the other's hands."""
    try:
        return [run.current.pop()]
    except IndexError:
        return []


def _patience(run: _Run) -> float:
    """How long to idle: a thread looks after client reports; a greenlet must not keep gevent's loop alive."""
    return REPORT_ALONE_S if type(run.wake).__module__ == "_thread" else inf
