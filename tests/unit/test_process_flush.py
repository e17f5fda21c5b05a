"""Flush and exit: one budget, whatever the number of backends."""

from __future__ import annotations

import threading
import time

from otel_sentry import process, signals
from tests.support.client import sentry_sdk_set_up


class Provider:
    """Of logs or metrics; its flush waits for *gate*."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.calls: list[str] = []

    def force_flush(self) -> bool:
        self.calls.append("force_flush")
        return self.gate.wait(10)

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        self.gate.wait(10)


def test_one_that_hangs_costs_half_of_the_budget_and_nobody_elses_turn() -> None:
    """The others are flushed beside it, Sentry gets the rest of the time, and the answer is False."""
    open_, shut = threading.Event(), threading.Event()
    open_.set()
    with sentry_sdk_set_up() as sentry:
        hanging, fine = Provider(shut), Provider(open_)
        signals._meter_provider, signals._logger_provider = hanging, fine
        started = time.monotonic()
        done = process.flush_now(1.0)
        took = time.monotonic() - started
        assert not done and 0.45 < took < 2.0
        assert fine.calls == hanging.calls == ["force_flush"]
        assert 0.0 < sentry.sender.flushed[0] <= 0.6
        shut.set()
        process.shutdown()
        assert fine.calls[-1] == hanging.calls[-1] == "shutdown" and sentry.sender.closed
        assert signals.others("shutdown") == [], "a second call does nothing"
