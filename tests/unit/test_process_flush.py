"""Flush and exit: one budget, whatever the number of backends."""

from __future__ import annotations

import threading
import time

import pytest

from otel_sentry import counters, process, signals
from otel_sentry.business import metrics, worker
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


def _away() -> None:
    raise worker.Unavailable


def test_the_last_flush_counts_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """A pool process ends after it: business calls whose store is away are counted; before that they wait on."""
    with sentry_sdk_set_up():
        worker.submit(_away)
        assert not process.flush_now(0.4)
        assert counters.snapshot() == {}
        process.flush_now(0.4, last=True)
        assert counters.snapshot() == {("network_error", "business"): 1}
        assert "business calls lost: 1" in capsys.readouterr().err


def test_what_is_measured_costs_the_exit_no_more_than_its_time() -> None:
    """Measurements that can't be recorded in time are counted as lost."""
    with sentry_sdk_set_up():
        counters.reset()
        metrics._waiting.extend([(time.sleep, (0.001,))] * 5000)
        started = time.monotonic()
        metrics.close(started + 0.2)
        assert time.monotonic() - started < 2.0
        assert counters.snapshot()["network_error", "trace_metric"] > 1000
    counters.reset()
