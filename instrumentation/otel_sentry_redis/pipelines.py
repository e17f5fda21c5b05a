"""What a pipeline of redis-py holds, and a name for its span whose length has a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Commands whose text is shown.
_MAX_SHOWN = 100
_STACKS = ("command_queue", "_command_queue", "command_stack", "_command_stack")


def stack_of(pipeline: Any) -> Any:
    """The queued commands, in redis-py's own form: a tuple whose first item, or an object whose `args`, they are."""
    # Since redis-py 6 a cluster's are with its strategy, and its own list stays empty.
    for owner in (getattr(pipeline, "_execution_strategy", None), pipeline):
        for name in _STACKS:
            stack = getattr(owner, name, None)
            if stack:
                return stack
    return ()


def commands_of(pipeline: Any) -> Iterator[tuple[Any, ...]]:
    """The arguments of each command, its name first."""
    for command in stack_of(pipeline):
        yield tuple(command.args) if hasattr(command, "args") else tuple(command[0])


def meta_data(pipeline: Any) -> tuple[Any, str, str]:
    """In place of contrib's, which names a span after all its commands: the commands, their text, the span's name.

    Semantic conventions: `PIPELINE SET` where all are SET, else `PIPELINE`.
    """
    names: set[str] = set()
    lines: list[str] = []
    for args in commands_of(pipeline):
        name = str(args[0]) if args else ""
        names.add(name)
        if len(lines) < _MAX_SHOWN:
            lines.append(" ".join([name, *["?"] * min(len(args) - 1, _MAX_SHOWN)]))
    name = f"PIPELINE {names.pop()}" if len(names) == 1 else "PIPELINE"
    return stack_of(pipeline), "\n".join(lines), name
