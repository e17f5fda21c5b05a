"""The stacks of other threads: the same as `f_back` gives, and no crash in Python 3.11."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest

from otel_sentry import frames


def _walked(frame: FrameType | None) -> list[FrameType]:
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def test_same_as_f_back() -> None:
    """A stack is what `f_back` leads to, the copy says the same of each frame, and nothing is none."""
    frame = sys._getframe()
    assert frames.stack(frame) == _walked(frame)
    copy, copies = frames.still(frame), []
    while copy is not None:
        copies.append((copy.f_code, copy.f_globals["__name__"]))
        copy = copy.f_back
    assert copies == [(one.f_code, one.f_globals["__name__"]) for one in _walked(frame)]
    assert frames.stack(None) == []
    assert frames.still(None) is None


@pytest.mark.parametrize("on", [True, False])
def test_collector_is_left_as_it_was(on: bool) -> None:
    """A program that has switched the collector off finds it off, one that has not finds it on."""
    (gc.enable if on else gc.disable)()
    try:
        frames.stack(sys._getframe())
        assert gc.isenabled() is on
    finally:
        gc.enable()


#: While the stack of a thread is read, each collection lets this thread return, and waits until it is gone.
_RACE = """
import gc, sys, threading
from otel_sentry import frames

def deep(n):
    if n:
        return deep(n - 1)
    entered.set()
    leave.wait()

class Finalized:
    def __del__(self):
        leave.set()
        thread.join(0.2)

def rubbish():
    one = Finalized()
    one.itself = one

def by_f_back(frame):
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found

read = {"f_back": by_f_back, "stack": frames.stack}[sys.argv[1]]
for _ in range(40):
    entered, leave = threading.Event(), threading.Event()
    gc.disable()
    thread = threading.Thread(target=deep, args=(60,))
    thread.start()
    entered.wait()
    rubbish()
    frame = sys._current_frames()[thread.ident]
    gc.set_threshold(30)
    gc.enable()
    found = read(frame)
    gc.set_threshold(700)
    [(one.f_code.co_name, one.f_lineno, one.f_back) for one in found]
    leave.set()
    thread.join()
    assert len(found) > 60, len(found)
print("alive")
"""


def test_a_thread_that_returns_while_its_stack_is_read() -> None:
    """A collection, whose finalizer lets the thread return, comes after the reading and not within it."""
    done = subprocess.run(
        [sys.executable, "-c", _RACE, "stack"], capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr


@pytest.mark.skipif(not frames.UNSAFE, reason="sentry_sdk's own walk is safe there")
def test_profiler_reads_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """sentry_sdk's sampling thread walks copies, and makes of them what it makes of the frames."""
    from sentry_sdk._lru_cache import LRUCache
    from sentry_sdk.profiler import continuous_profiler, utils

    from otel_sentry.sentry import compat

    module: Any = continuous_profiler
    monkeypatch.setattr(module, "sys", sys)
    assert compat._sample_safely(module)
    ready, leave = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        leave.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        ready.wait(5)
        time.sleep(0.05)  # until it waits
        copy = module.sys._current_frames()[thread.ident]
        assert isinstance(copy, frames.Still)
        assert module.sys.exc_info() == (None, None, None)
        both: list[Any] = [copy, sys._current_frames()[thread.ident or 0]]
        copied, walked = (utils.extract_stack(one, LRUCache(max_size=256), os.getcwd()) for one in both)
        assert copied == walked
    finally:
        leave.set()
        thread.join()
