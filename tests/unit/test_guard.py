"""The guard: swallows defects of ours, never the program's own interruptions."""

from __future__ import annotations

import signal
import sys

import pytest

from otel_sentry import guard


@pytest.mark.allow_swallowed
def test_block_swallows_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """A defect inside is counted and said once, in one line."""
    for _ in range(3):
        with guard.block("here"):
            raise ValueError("boom")
    assert guard.swallowed["here"] == 3
    assert capsys.readouterr().err.splitlines() == ["otel-sentry: ignored a fault in here: ValueError: boom"]


def test_a_line_from_a_signal_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that has interrupted a write to stderr can't write there: nothing is raised."""

    class Busy:
        def write(self, text: str) -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr(sys, "stderr", Busy())
    guard.say("x")


@pytest.mark.allow_swallowed
def test_call_returns_the_default() -> None:
    """The decorator keeps the function's name and gives the default instead of the exception."""

    @guard.call("there", default=7)
    def broken() -> int:
        raise KeyError("x")

    assert broken() == 7 and broken.__name__ == "broken"


def test_soft_time_limit_passes() -> None:
    """Decision 17: Celery's SoftTimeLimitExceeded is an Exception, and the task's own."""
    from billiard.exceptions import SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded), guard.block("hook"):
        raise SoftTimeLimitExceeded()


def test_what_a_signal_handler_raises_passes() -> None:
    """Decision 17: an exception with a frame of a registered signal handler is never swallowed."""

    def handler(number: int, frame: object) -> None:
        raise RuntimeError("from the handler")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(RuntimeError), guard.block("hook"):
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exceptions_pass(kind: type[BaseException]) -> None:
    """Only `Exception`s are ever swallowed."""
    with pytest.raises(kind), guard.block("hook"):
        raise kind


def test_say_survives_a_closed_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons close stderr; saying something must not raise there."""
    monkeypatch.setattr("sys.stderr", None)
    guard.say("anything")
