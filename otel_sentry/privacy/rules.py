"""The user's own rules: further names, patterns of values, and names that are no secrets."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterable
from typing import Any

from otel_sentry.privacy import attributes, keys, values
from otel_sentry.privacy.tokens import FILTERED

MAX_PATTERNS = 50
_PIECE = 256
"""Characters that a user's pattern sees at a time; a text is cut into such pieces between words."""
_BUDGET_S = 0.05
"""Seconds that these patterns may take for one text; what is left of it then is filtered."""
_UNBOUNDED = 64

_patterns: list[re.Pattern[str]] = []


def use(names: Iterable[str] = (), patterns: Iterable[str] = (), allowed: Iterable[str] = ()) -> list[str]:
    """Put the user's rules in force, in place of those before.

    Args:
        names: words of names that hold secrets: `customer_ref` is in `order.customerRef` too.
        patterns: regular expressions; what matches is filtered.
        allowed: names (as a whole, or the part after the last dot) that hold no secret.

    Returns:
        A line for each pattern that can't be used; the others are in force.

    """
    keys.use(names, allowed)
    attributes.forget()
    problems: list[str] = []
    _patterns[:] = []
    for text in patterns:
        reason = "there are too many" if len(_patterns) >= MAX_PATTERNS else _refusal(text)
        if reason:
            problems.append(f"OTEL_SENTRY_SCRUB_VALUES: `{text[:80]}` is not used: {reason}")
        else:
            _patterns.append(re.compile(text))
    values.use(_apply if _patterns else None)
    return problems


def _refusal(text: str) -> str:
    try:
        pattern = re.compile(text)
        tree = _parser().parse(text)
    except (re.error, RecursionError, OverflowError) as exc:
        return f"no regular expression ({exc})"
    if _repeats(tree) > 2:
        return "it could take for ever (a repeat inside a repeat, or more than two of them)"
    return "it matches the empty text" if pattern.match("") else ""


def _parser() -> Any:
    try:
        return importlib.import_module("re._parser")
    except ImportError:  # Python 3.10
        return importlib.import_module("sre_parse")


def _repeats(tree: Any, inside: bool = False) -> int:
    """How many unbounded repeats there are; very many where a repeat or a choice stands inside one."""
    found = 0
    for operation, argument in tree:
        name = str(operation)  # e.g. MAX_REPEAT
        if name.endswith("REPEAT"):
            low, high, body = argument
            wide = high != low and int(high) > _UNBOUNDED
            if inside and high != low:
                return 100
            found += int(wide) + _repeats(body, inside or wide)
        elif name == "BRANCH":
            found += 100 if inside else max(_repeats(branch) for branch in argument[1])
        elif name in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
            body = argument[-1] if isinstance(argument, tuple) else argument
            found += _repeats(body, inside)
        elif name.startswith("GROUPREF"):
            found += 1
    return found


def _apply(text: str) -> str:
    """*text* without what the patterns match. What was filtered before is left as it is."""
    until = time.perf_counter() + _BUDGET_S
    parts = text.split(FILTERED)
    for number, part in enumerate(parts):
        out: list[str] = []
        for piece in _pieces(part):
            if time.perf_counter() > until:
                return FILTERED.join([*parts[:number], "".join(out) + FILTERED])
            for pattern in _patterns:
                piece = FILTERED.join(pattern.sub(FILTERED, one) for one in piece.split(FILTERED))
            out.append(piece)
        parts[number] = "".join(out)
    return FILTERED.join(parts)


def _pieces(text: str) -> Iterable[str]:
    start = 0
    while len(text) - start > _PIECE:
        end = max(text.rfind(" ", start, start + _PIECE), text.rfind("\n", start, start + _PIECE)) + 1
        end = end if end > start else start + _PIECE
        yield text[start:end]
        start = end
    yield text[start:]
