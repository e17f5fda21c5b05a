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

from otel_sentry import counters, frames, guard, runtime, signals
from otel_sentry.trace.segment import table

_installed = False
#: `shutdown` is at work.
shutting_down = False
#: Of the time for the exit; the interpreter's own part comes after it.
_OURS = 0.9
#: Seconds that a fork waits, at most, for a module that is being imported.
_IMPORT_S = 2.0


def install() -> None:
    """Register for fork, exit and SIGTERM. Idempotent."""
    global _installed
    if _installed:
        return
    _installed = True
    atexit.register(shutdown)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
    _install_sigterm()


def _before_fork() -> None:
    """A module that another thread is importing for us would stay half imported in the child, and its lock held."""
    deadline = time.monotonic() + _IMPORT_S
    here = threading.get_ident()
    with guard.block("fork"):
        while len(frames.current()) > 1 and time.monotonic() < deadline:
            time.sleep(0)  # whoever waits for the interpreter has its turn now, not between the look and the fork
            if not any(_imports_for_us(frame) for thread, frame in frames.current().items() if thread != here):
                break
            time.sleep(0.001)


def _imports_for_us(frame: FrameType | None) -> bool:
    """Is a thread inside of an import that code of ours began?"""
    importing = False
    for one in frames.stack(frame):
        if importing and one.f_globals.get("__name__", "").startswith("otel_sentry"):
            return True
        importing = importing or one.f_code.co_filename == "<frozen importlib._bootstrap>"
    return False


def _after_fork_in_child() -> None:
    """The child starts empty: what was open or counted in the parent is the parent's to send."""
    table.clear()
    counters.reset()
    count = len(_parked)
    _parked.clear()  # threads do not survive a fork
    _park(count)


def flush_now(timeout: float | None = None, *, last: bool = False) -> bool:
    """Send what is there, within *timeout* seconds (default: `shutdown_timeout`). True when all left in time.

    *last*: nothing comes after it (Celery's pool processes end without `atexit`), so what is left is counted as lost.
    """
    current = runtime.get()
    if current is None:
        return True
    budget = current.settings.shutdown_timeout if timeout is None else timeout
    deadline = time.monotonic() + budget
    # What measures comes first: it may go to Sentry.
    done = _business("close", budget / 2) if last else _business("flush", budget / 4)
    done = _within(min(budget / 2, deadline - time.monotonic()), *signals.others("force_flush")) and done
    signals.drain()
    if current.sender is not None:
        done = current.sender.flush(max(0.0, deadline - time.monotonic())) and done
    return _within(deadline - time.monotonic(), *_other_backends(current, "force_flush")) and done


def shutdown() -> None:
    """Send what is there and stop, within `shutdown_timeout` seconds. Runs at exit; safe to call again."""
    global shutting_down
    current = runtime.get()
    if current is None:
        return
    shutting_down = True
    with guard.block("shutdown"):
        deadline = time.monotonic() + current.settings.shutdown_timeout * _OURS
        # An alert may be the first issue: loading sentry_sdk takes a while.
        _business("close", current.settings.shutdown_timeout / 2)
        others = [*_other_backends(current, "shutdown"), *signals.others("shutdown")]
        signals.stopped()
        _within((deadline - time.monotonic()) / 2, *others)
        signals.account()
        signals.drain()
        if current.sender is not None:
            current.pipeline.finish_open()
            current.sender.close(max(0.0, deadline - time.monotonic()))
    shutting_down = False


def _business(method: str, seconds: float) -> bool:
    """Let the business worker do what waits, if there is one, and the alert sinks after it, within *seconds*."""
    deadline = time.monotonic() + seconds
    done = True
    with guard.block("flush of business calls"):
        worker = signals.loaded("otel_sentry.business.worker")
        if worker is not None:
            worker.flush(seconds / 2)
        metrics = signals.loaded("otel_sentry.business.metrics")  # the worker may just have needed it
        if metrics is not None:
            metrics.settle(deadline)
        if worker is not None:
            done = getattr(worker, method)(max(0.0, deadline - time.monotonic())) is not False
        sinks = signals.loaded("otel_sentry.business.sinks.lanes")
        if sinks is not None:
            done = getattr(sinks, method)(deadline - time.monotonic()) is not False and done
        if metrics is not None:
            getattr(metrics, method)(deadline)
    return done


def _other_backends(current: runtime.Runtime, method: str) -> list[Callable[[], object]]:
    """*method* of the provider, where it has processors besides ours; ours do nothing there."""
    provider = current.provider
    if provider is None or not getattr(provider, "has_other_backends", True) or not hasattr(provider, method):
        return []
    return [getattr(provider, method)]


def _within(seconds: float, *functions: Callable[[], object]) -> bool:
    """Run *functions* side by side, for at most *seconds* in all: OTel's own flush ignores its time-out
    (opentelemetry-python#4568), and one backend that hangs must not cost the others their turn."""
    if functions and seconds <= 0:
        return False
    deadline = time.monotonic() + seconds
    started = [start(function) for function in functions]
    return all(finished.wait(max(0.0, deadline - time.monotonic())) for finished in started)


def start(function: Callable[[], object]) -> threading.Event:
    """Run *function* in a thread of its own, at exit too; the event says when it is done."""
    finished = threading.Event()

    def run() -> None:
        with guard.block("flush of another backend"):
            function()
        finished.set()

    try:
        # A raw thread: never joined at exit, so a backend that hangs can't hold the program.
        _thread.start_new_thread(run, ())
    except RuntimeError:  # Python 3.12+ starts no threads once the interpreter shuts down
        if _parked:
            _parked.pop().do(run)
        else:
            run()
    return finished


class _Parked:
    """A thread that waits for what there is to do at exit."""

    def __init__(self) -> None:
        self._function: Callable[[], None] = lambda: None
        self._go = _thread.allocate_lock()
        self._go.acquire()
        _thread.start_new_thread(self._main, ())

    def _main(self) -> None:
        while True:
            self._go.acquire()
            self._function()
            _parked.append(self)

    def do(self, function: Callable[[], None]) -> None:
        self._function = function
        self._go.release()


_parked: list[_Parked] = []


def prepare_exit() -> None:
    """See to it that each other backend and alert sink has a thread at exit, where none can be started any more."""
    current = runtime.get()
    if current is not None:
        sinks = {pair.partition("=")[2] for pair in current.settings.alert_sinks}
        _park(len(_other_backends(current, "shutdown")) + len(signals.others("shutdown")) + len(sinks))


def _park(count: int) -> None:
    if sys.version_info >= (3, 12):
        while len(_parked) < count:
            _parked.append(_Parked())


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
