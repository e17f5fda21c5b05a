"""The user's own rules for grouping, in the words of Sentry's fingerprint rules:
``type:ReadTimeout message:"*quota*" -> quota, {{ default }}``.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_KEYS = ("type", "message", "operation", "kind")
_EXPECTED = 'expected rules such as type:ReadTimeout message:"*quota*" -> quota, {{ default }}; several end with ";"'


@dataclass(frozen=True, slots=True, repr=False)
class Rule:
    """All *matchers* (key, pattern) have to fit; then *parts* are the fingerprint."""

    matchers: tuple[tuple[str, re.Pattern[str]], ...]
    parts: tuple[str, ...]
    text: str

    def __repr__(self) -> str:
        return self.text

    def fits(self, facts: Mapping[str, Iterable[str]]) -> bool:
        """*facts*: key of a matcher -> what it may fit."""
        return all(any(pattern.match(one) for one in facts.get(key, ())) for key, pattern in self.matchers)


def rules(text: str) -> tuple[Rule, ...]:
    """Rules from text: one a line, or with ``;`` between them. Patterns are globs; case does not matter.

    Raises:
        ValueError: a part is no rule.

    """
    found = tuple(_rule(part) for part in re.split(r"[;\n]", text) if part.strip())
    if not found:
        raise ValueError(_EXPECTED)
    return found


def _rule(text: str) -> Rule:
    import shlex

    left, arrow, right = text.rpartition("->")
    parts = tuple(part.strip() for part in right.split(",") if part.strip())
    matchers = []
    for word in shlex.split(left):  # an open quote is a ValueError as well
        key, colon, pattern = word.partition(":")
        if not colon or key not in _KEYS:
            raise ValueError(f"{_EXPECTED}; matchers are {', '.join(_KEYS)}")
        matchers.append((key, re.compile(fnmatch.translate(pattern), re.IGNORECASE)))
    if not arrow or not parts or not matchers:
        raise ValueError(_EXPECTED)
    return Rule(tuple(matchers), parts, text.strip())
