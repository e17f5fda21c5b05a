"""Delivery to the sinks: each has a bounded queue and, while there is something in it, a thread.

So a sink that hangs holds up no other sink, and no business call. `deliver` is called on the business worker.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from otel_sentry import counters, guard, process
from otel_sentry.business import metrics
from otel_sentry.business.sinks import Alert, Refused, TryAgain
from otel_sentry.sentry import http

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

Sink = Callable[[Alert, "Settings"], None]

GROUP = "otel_sentry_alert_sinks"
#: Alerts that wait for one sink.
MAX_WAITING = 100
#: Seconds after which an alert is given up, however often it was tried.
PATIENCE_S = 120.0
FIRST_PAUSE_S = 1.0
_POLL_S = 0.005

_lanes: dict[str, _Lane] = {}
#: The process ends: no more waiting between two tries.
_hurry = threading.Event()


def deliver(alert: Alert, settings: Settings, severities: Iterable[str] = ()) -> None:
    """Give *alert* to the sinks that the settings name for *severities* (default: its own)."""
    for name in chosen(settings, *(severities or (alert.severity,))):
        lane = _lanes.get(name)
        if lane is None:
            lane = _lanes[name] = _Lane(name)
        lane.put(alert, settings)


def chosen(settings: Settings, *severities: str) -> list[str]:
    """Names of the sinks for any of *severities*, each once."""
    pairs = (pair.partition("=") for pair in settings.alert_sinks)
    return list(dict.fromkeys(name for wanted, _, name in pairs if wanted in severities))


def flush(timeout: float) -> bool:
    """Wait for what is under way, at most *timeout* seconds; not for a sink that is being tried again."""
    deadline = time.monotonic() + timeout
    for lane in list(_lanes.values()):
        while lane.waiting:
            if lane.pausing or time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
    return True


def close(timeout: float) -> None:
    """`flush`, for the last time: each alert is tried once more at most; what is left is counted as lost."""
    _hurry.set()
    deadline = time.monotonic() + timeout
    while not flush(deadline - time.monotonic()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for lane in list(_lanes.values()):
        counters.lost("network_error", "business", len(lane.waiting))
    reset()


def reset() -> None:
    """Begin anew: in a forked child, whose threads are not there, and after the end."""
    global _hurry
    _lanes.clear()
    _hurry = threading.Event()


class _Lane:
    """One sink's queue."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[tuple[Alert, Settings, float]] = deque()
        self.pausing = False  # between two tries
        self._sink: Sink | None = None
        self._running = False
        self._lock = threading.Lock()

    def put(self, alert: Alert, settings: Settings) -> None:
        """Queue *alert*, and see to it that somebody works."""
        if len(self.waiting) >= MAX_WAITING:
            self._lost("queue_overflow", f"{MAX_WAITING} alerts wait for it")
            return
        self.waiting.append((alert, settings, time.monotonic() + PATIENCE_S))
        if self._begin():
            process.start(self._work)

    def _begin(self) -> bool:
        with self._lock:
            if self._running or not self.waiting:
                return False
            self._running = True
            return True

    def _work(self) -> None:
        finished = False
        try:
            with http.suppressed():
                while self._more():
                    with guard.block("alert sinks"):
                        self._deliver(*self.waiting[0])
                    self.waiting.popleft()
            finished = True
        finally:
            if not finished:
                self._running = False

    def _more(self) -> bool:
        with self._lock:
            self._running = bool(self.waiting)
            return self._running

    def _deliver(self, alert: Alert, settings: Settings, until: float) -> None:
        pause = FIRST_PAUSE_S
        while True:
            failure = guard.outcome(self._send, alert, settings)
            if failure is None:
                metrics.count("business.alert.delivery", sink=self.name, outcome="sent")
                return
            wait = _pause_after(failure, pause)
            if wait is None or _hurry.is_set() or time.monotonic() + wait > until:
                self._lost("network_error", _reason(failure))
                return
            self.pausing = True
            _hurry.wait(wait)
            self.pausing = False
            pause *= 2

    def _send(self, alert: Alert, settings: Settings) -> None:
        if self._sink is None:
            self._sink = find(self.name)
        self._sink(alert, settings)

    def _lost(self, reason: str, words: str) -> None:
        counters.lost(reason, "business")
        metrics.count("business.alert.delivery", sink=self.name, outcome="failed")
        guard.say_once(f"alert_sink:{self.name}", f"an alert did not reach the sink {self.name}: {words}")


def find(name: str) -> Any:
    """The sink of that name. Raises `Refused` with the names there are."""
    from importlib.metadata import entry_points

    installed = {one.name: one for one in entry_points(group=GROUP)}
    if name not in installed:
        raise Refused(f"there is none; installed: {', '.join(sorted(installed)) or 'none'}")
    return installed[name].load()


def _pause_after(failure: BaseException, pause: float) -> float | None:
    """Seconds to wait before the next try; None: trying again is no use."""
    if isinstance(failure, TryAgain):
        return pause if failure.after_s is None else failure.after_s
    return pause if isinstance(failure, OSError) else None


def _reason(failure: BaseException) -> str:
    return str(failure) if isinstance(failure, (Refused, TryAgain)) else type(failure).__name__


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)
