"""Fork, signals, exit: one total time budget for everything that is left to send (decisions 21, 23)."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from otel_sentry import counters, guard, runtime
from otel_sentry.trace.segment import table

_installed = False


def install() -> None:
    """Register for fork, exit and SIGTERM. Idempotent."""
    global _installed
    if _installed:
        return
    _installed = True
    atexit.register(shutdown)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)
    _install_sigterm()


def _after_fork_in_child() -> None:
    """The child starts empty: what was open or counted in the parent is the parent's to send."""
    table.clear()
    counters.reset()


def flush_now(timeout: float | None = None) -> bool:
    """Send what is there, within *timeout* seconds (default: `shutdown_timeout`). True when all left in time."""
    current = runtime.get()
    if current is None:
        return True
    budget = current.settings.shutdown_timeout if timeout is None else timeout
    deadline = time.monotonic() + budget
    done = True
    if current.sender is not None:
        done = current.sender.flush(budget)
    flush_others = _other_backends(current, "force_flush")
    if flush_others is not None:
        done = _within(deadline - time.monotonic(), flush_others) and done
    return done


def shutdown() -> None:
    """Send what is there and stop, within `shutdown_timeout` seconds. Runs at exit; safe to call again."""
    current = runtime.get()
    if current is None:
        return
    with guard.block("shutdown"):
        deadline = time.monotonic() + current.settings.shutdown_timeout
        shut_others = _other_backends(current, "shutdown")
        if shut_others is not None:
            _within(current.settings.shutdown_timeout / 2, shut_others)
        if current.sender is not None:
            current.sender.close(max(0.0, deadline - time.monotonic()))


def _other_backends(current: runtime.Runtime, method: str) -> Callable[[], object] | None:
    """*method* of the provider, where it has processors besides ours; ours do nothing there."""
    provider = current.provider
    if provider is None or not getattr(provider, "has_other_backends", True):
        return None
    return getattr(provider, method, None)


def _within(seconds: float, function: Callable[[], object]) -> bool:
    """Run *function* for at most *seconds*: OTel's own flush ignores its time-out (opentelemetry-python#4568)."""
    if seconds <= 0:
        return False
    finished = threading.Event()

    def run() -> None:
        with guard.block("flush of another backend"):
            function()
        finished.set()

    try:
        # A raw thread: never joined at exit, so a backend that hangs can't hold the program.
        _thread.start_new_thread(run, ())
    except RuntimeError:  # Python 3.12+ starts no threads once the interpreter shuts down
        run()
    return finished.wait(seconds)


def _install_sigterm() -> None:
    """Flush on SIGTERM where nobody else handles it; servers that install their own handler later replace ours."""
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    """Send, then die of the same signal, so that the exit status stays what it would have been."""
    shutdown()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
