"""What is slow, and what repeats: the thresholds in force, in nanoseconds (business.md 5)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

MS = 1_000_000
_MAX_KNOWN = 1000
_NO_MAPPING = "expected pattern=milliseconds pairs, separated by commas, such as /reports/*=8000,posts.tasks.*=60000"


def by_name(text: str) -> tuple[tuple[str, float], ...]:
    """`OTEL_SENTRY_SLOW_MS` as pairs of a glob pattern and milliseconds.

    Raises:
        ValueError: a part is no such pair.

    """
    found = []
    for part in text.split(","):
        if not part.strip():
            continue
        pattern, _, number = part.rpartition("=")  # a route may hold a "="
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not pattern.strip() or not 0 <= value <= 1e12:
            raise ValueError(f"{_NO_MAPPING}; {part.strip()!r:.60} is none")
        found.append((pattern.strip(), value))
    return tuple(found)


@dataclass(frozen=True)
class Limits:
    """Thresholds in ns. *n_plus_one* 0: repeated queries are not looked for."""

    request: int = 2_000 * MS
    very_slow: int = 5_000 * MS
    task: int = 30_000 * MS
    query: int = 500 * MS
    external: int = 3_000 * MS
    n_plus_one: int = 10
    n_plus_one_time: int = 50 * MS
    patterns: tuple[tuple[re.Pattern[str], int], ...] = ()
    _known: dict[str, int | None] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def shortest_call(self) -> int:
        """No query and no outgoing request below this is slow."""
        return min(self.query, self.external)

    @cached_property
    def shortest_root(self) -> int:
        """No request and no task below this is slow."""
        return min(self.request, self.task, *(limit for _, limit in self.patterns))

    def named(self, names: Iterable[str]) -> int | None:
        """The threshold that the user's mapping gives to one of *names*; its first pattern that fits wins."""
        if not self.patterns:
            return None
        found = [index for name in names if name and (index := self._index(name)) is not None]
        return self.patterns[min(found)][1] if found else None

    def _index(self, name: str) -> int | None:
        if name in self._known:
            return self._known[name]
        index = next((index for index, (pattern, _) in enumerate(self.patterns) if pattern.match(name)), None)
        if len(self._known) < _MAX_KNOWN:
            self._known[name] = index
        return index


def limits_of(settings: Settings) -> Limits:
    """The limits that *settings* ask for."""
    return Limits(
        request=int(settings.slow_request_ms * MS),
        very_slow=int(settings.very_slow_request_ms * MS),
        task=int(settings.slow_task_ms * MS),
        query=int(settings.slow_query_ms * MS),
        external=int(settings.slow_external_ms * MS),
        n_plus_one=settings.n_plus_one,
        n_plus_one_time=int(settings.n_plus_one_ms * MS),
        patterns=tuple((re.compile(fnmatch.translate(name)), int(ms * MS)) for name, ms in settings.slow_ms),
    )
