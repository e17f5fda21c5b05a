"""The business worker: one thread, bounded, never waits, and patient with a store that is away."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_sentry import counters, guard
from otel_sentry.business import worker


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    worker._after_fork()
    yield
    worker.close(1.0)
    counters.reset()


def test_calls_are_made_in_order_on_one_thread() -> None:
    """All calls run on the same other thread, in their order, with instrumentation suppressed."""
    seen: list[tuple[int, int, bool]] = []
    for number in range(500):
        assert worker.submit(lambda n: seen.append((n, threading.get_ident(), is_instrumentation_enabled())), number)
    assert worker.flush(5.0)
    assert [number for number, _, _ in seen] == list(range(500))
    assert len({thread for _, thread, _ in seen} - {threading.get_ident()}) == 1
    assert not any(enabled for _, _, enabled in seen)


def test_what_finds_the_store_away_is_done_later_in_order() -> None:
    """Calls that raise `Unavailable` are made again in their order; others do not wait for them."""
    done: list[object] = []
    away = threading.Event()
    away.set()

    def store(number: int) -> None:
        if away.is_set():
            raise worker.Unavailable
        done.append(number)

    for number in range(3):
        worker.submit(store, number)
    worker.submit(done.append, "alert")
    assert not worker.flush(5.0)
    assert done == ["alert"]
    away.clear()
    assert worker.flush(5.0)
    assert done == ["alert", 0, 1, 2]
    assert counters.snapshot() == {}


def test_what_was_put_off_is_tried_again_without_a_flush() -> None:
    """The thread looks again by itself."""
    tries: list[float] = []

    def store() -> None:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise worker.Unavailable

    worker.submit(store)
    deadline = time.monotonic() + 5
    while len(tries) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(tries) == 3


def test_a_full_queue_says_no_and_counts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Past the bound a call is refused, counted and said once."""
    monkeypatch.setattr(worker, "MAX_WAITING", 10)
    hold = threading.Event()
    worker.submit(hold.wait, 5)
    time.sleep(0.05)  # it has begun
    assert [worker.submit(int) for _ in range(12)] == [True] * 10 + [False] * 2
    assert counters.snapshot() == {("queue_overflow", "business"): 2}
    assert capsys.readouterr().err.count("business calls wait") == 1
    hold.set()
    assert worker.flush(5.0)


def test_what_is_left_at_the_end_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """With the store away at exit, `close` takes one more try, and counts what is lost."""

    def store() -> None:
        raise worker.Unavailable

    for _ in range(4):
        worker.submit(store)
    begun = time.monotonic()
    worker.close(5.0)
    assert time.monotonic() - begun < 1.0
    assert counters.snapshot() == {("network_error", "business"): 4}
    assert "business calls lost: 4" in capsys.readouterr().err


@pytest.mark.allow_swallowed
def test_a_fault_is_swallowed_and_counted() -> None:
    """A call that raises is lost, counted, and harms no other."""
    done: list[int] = []
    worker.submit(lambda: 1 / 0)
    worker.submit(done.append, 1)
    assert worker.flush(5.0)
    assert done == [1]
    assert guard.swallowed == {"business call": 1}
    assert counters.snapshot() == {("internal_sdk_error", "business"): 1}


def test_submit_is_cheap() -> None:
    """A call costs the caller less than 50 us of its own time, on a busy machine."""
    worker.submit(int)
    best = min(_cost_of(1000) for _ in range(5))
    assert best < 50e-6
    assert worker.flush(5.0)


def _cost_of(count: int) -> float:
    begun = time.thread_time()
    for _ in range(count):
        worker.submit(int)
    cost = (time.thread_time() - begun) / count
    assert worker.flush(5.0)
    return cost


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_fork_and_exit() -> None:
    """A forked child has a worker of its own and none of the parent's calls; at exit the work is done in any case."""
    code = """
        import atexit, os, time
        from otel_sentry.business import worker
        worker.submit(time.sleep, 0.3)
        worker.submit(os.write, 1, b"parent ")
        child = os.fork()
        if child == 0:
            worker.submit(os.write, 1, b"child ")
            os._exit(0 if worker.flush(5) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert worker.flush(5)
        atexit.register(lambda: (worker.submit(os.write, 1, b"exit"), worker.flush(5)))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "child parent exit"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_fork_during_an_import(tmp_path: pathlib.Path) -> None:
    """A fork waits until the worker has imported what it is importing: the child does not find half a module."""
    (tmp_path / "slow_module.py").write_text("import time; time.sleep(0.5); there = True")
    code = f"""
        import os, sys, time
        sys.path.insert(0, {str(tmp_path)!r})
        import otel_sentry.process
        from otel_sentry import guard
        from otel_sentry.business import worker
        otel_sentry.process.install()
        def use():
            import slow_module
            os.write(1, str(slow_module.there).encode() + b" ")
        worker.submit(use)
        while "slow_module" not in sys.modules:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            worker.submit(use)
            os._exit(0 if worker.flush(5) and not guard.swallowed else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert worker.flush(5)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "True True "), done.stderr


def test_gevent_that_patches_late() -> None:
    """The library is loaded before gevent patches: the worker is a greenlet then, and holds nobody up."""
    pytest.importorskip("gevent")
    code = """
        from otel_sentry.business import worker
        from gevent import monkey, sleep
        monkey.patch_all()
        done = []
        worker.submit(done.append, 1)
        sleep(0.05)
        worker.submit(done.append, 2)
        print(worker.flush(5), done)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split(maxsplit=1) == ["True", "[1, 2]\n"]
