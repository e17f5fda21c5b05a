"""The only place with a broad ``except``: telemetry never breaks the program that it watches.

Every hook that OpenTelemetry, Django, Celery or sentry_sdk calls runs inside `block` or `call`. What they swallow
is counted in `swallowed` (the test suite fails on any entry) and said once per place, with the reason.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

#: where -> how many exceptions were swallowed there. Read by `doctor` and by the tests.
swallowed: dict[str, int] = {}

_SAY_AGAIN_S = 60.0
_last_said: dict[str, float] = {}
_debug = os.environ.get("SENTRY_DEBUG", "").lower() in ("1", "true", "yes", "on")


def set_debug(on: bool) -> None:
    """Turn `debug` lines on or off (`SENTRY_DEBUG`)."""
    global _debug
    _debug = on


def say(line: str) -> None:
    """Write one line to stderr. Not the logging module: it may not be set up yet, or may lead back to us."""
    try:
        sys.stderr.write(f"otel-sentry: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError, RuntimeError):
        pass  # closed, detached or missing (daemons, pythonw), or a signal handler of ours interrupted a write to it


def say_once(key: str, line: str) -> None:
    """Like `say`, at most once a minute for each *key*."""
    now = time.monotonic()
    last = _last_said.get(key)
    if last is None or now - last >= _SAY_AGAIN_S:
        _last_said[key] = now
        say(line)


def debug(line: str) -> None:
    """`say`, under ``SENTRY_DEBUG`` only."""
    if _debug:
        say(line)


def reset() -> None:
    """Forget counts and what was said (for tests, and for a forked child)."""
    swallowed.clear()
    _last_said.clear()


def _must_pass(exc: BaseException) -> bool:
    """Is *exc* the program's own interruption rather than a defect of ours?

    Celery's SoftTimeLimitExceeded is an `Exception` that a signal handler raises wherever the task happens to be, also
    inside our hooks; the same goes for every exception that comes out of a handler registered with `signal`.
    """
    if not isinstance(exc, Exception):
        return True
    if type(exc).__name__ == "SoftTimeLimitExceeded":
        return True
    handlers = _signal_handler_codes()
    tb = exc.__traceback__
    while handlers and tb is not None:
        if tb.tb_frame.f_code in handlers:
            return True
        tb = tb.tb_next
    return False


def _signal_handler_codes() -> set[Any]:
    codes = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if code is not None and handler is not signal.default_int_handler:
            codes.add(code)
    return codes


def _swallow(where: str, exc: BaseException) -> bool:
    if _must_pass(exc):
        return False
    swallowed[where] = swallowed.get(where, 0) + 1
    say_once(f"guard:{where}", f"ignored a fault in {where}: {type(exc).__name__}{_words(where, exc)}")
    if _debug:
        import traceback

        traceback.print_exception(type(exc), exc, exc.__traceback__)
    return True


def _words(where: str, exc: BaseException) -> str:
    """What *exc* says, scrubbed: it may hold the program's data."""
    if where == "the scrubber":
        return ""
    try:
        from otel_sentry.privacy import scrub_text

        return f": {scrub_text(str(exc))}"
    except Exception:
        return ""


class block:
    """``with block("place"):`` swallows, counts and says what goes wrong inside."""

    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> bool:
        return exc is not None and _swallow(self.where, exc)


def outcome(function: Callable[..., object], *args: Any) -> Exception | None:
    """Call *function*, which may fail in the ordinary course of things; what it raised, or None. Nothing is said."""
    try:
        function(*args)
    except Exception as exc:
        if _must_pass(exc):
            raise
        return exc
    return None


def call(where: str, default: Any = None) -> Callable[[F], F]:
    """Decorator: the function returns *default* where it would have raised."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as exc:
                if not _swallow(where, exc):
                    raise
                return default

        return cast(F, guarded)

    return decorate
