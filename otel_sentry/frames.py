"""The stacks of other threads, read without crashing the interpreter.

In Python 3.11 `frame.f_back` makes the frame object that it answers. That can run the garbage collector, whose
finalizers can let go of the interpreter's lock; the other thread then returns from the very function, and what was
being made points at memory that is gone: SIGSEGV, there or at the next step [seen, 3.11.7; sentry-python issue 2386].
3.10 makes no frames late, and 3.12 collects only between two instructions. The stack of one's own thread is safe.
"""

from __future__ import annotations

import gc
import operator
import sys
from functools import partial
from itertools import accumulate, pairwise, repeat, takewhile
from types import CodeType, FrameType
from typing import Any

#: Does `f_back` of another thread's frame need care?
UNSAFE = sys.version_info[:2] == (3, 11)
_call: Any = getattr(operator, "call", None)  # from Python 3.11 on
_is_frame = partial(operator.is_not, None)


def current() -> dict[int, FrameType]:
    """The innermost frame of each thread, by the thread's id: `sys._current_frames` makes frame objects, too."""
    found: dict[int, FrameType] = _uncollected(sys._current_frames)
    return found


def stack(frame: FrameType | None) -> list[FrameType]:
    """*frame*, of any thread, and what called it, innermost first."""
    if frame is None:
        return []
    steps: Any = accumulate(repeat("f_back"), getattr, initial=frame)
    found: list[FrameType] = _uncollected(partial(list, takewhile(_is_frame, steps)))
    return found


def _uncollected(function: Any) -> Any:
    """Call *function*, all in C, with the collector off where that matters.

    The three calls are one to the interpreter, which keeps its lock: no thread and no fork sees the collector off.
    """
    if not UNSAFE or not gc.isenabled():
        return function()
    try:
        return list(map(_call, (gc.disable, function, gc.enable)))[1]
    except BaseException:  # out of memory
        gc.enable()
        raise


class Still:
    """What a profiler asks of a frame, as it was: nothing of it moves any more."""

    __slots__ = ("f_back", "f_code", "f_globals", "f_lineno")

    def __init__(self, frame: FrameType) -> None:
        self.f_back: Still | None = None
        self.f_code: CodeType = frame.f_code
        self.f_globals: dict[str, Any] = frame.f_globals
        self.f_lineno: int | None = frame.f_lineno


def still(frame: FrameType | None) -> Still | None:
    """A copy of *frame* and of all that called it."""
    copies = [Still(one) for one in stack(frame)]
    for inner, outer in pairwise(copies):
        inner.f_back = outer
    return copies[0] if copies else None
