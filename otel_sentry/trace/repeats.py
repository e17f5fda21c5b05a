"""One query again and again (N+1), as Sentry's own detector sees it: same parent, one after the other, same text.

Queries of two shapes that take turns count too, each for itself: Sentry asks for an unbroken row.
Source of the rule: Sentry's docs, "N+1 Queries" (sequential, non-overlapping, more than 50 ms in all).
"""

from __future__ import annotations

#: Texts that are told apart in one segment; past it those that ran once are forgotten.
_MAX_TEXTS = 100
#: Longer statements are left alone: they are no look-ups.
_MAX_LENGTH = 4096
#: Texts that begin alike may be one query with other values in it.
_BEGINNING = 24


class Repeats:
    """Texts of queries by parent: [count, ns, end of the last one in ns since the epoch, was it said]."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], list[int]] = {}

    def add(self, parent_id: int, text: str, start: int, ns: int, most: int, least_ns: int) -> bool:
        """Note one query. True once for each text that ran *most* times for *least_ns* in all."""
        if len(text) > _MAX_LENGTH:
            return False
        key = (parent_id, text)
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= _MAX_TEXTS:
                self._thin(most)
            self._seen[key] = [1, ns, start + ns, 0]
            return False
        if start < seen[2]:  # side by side with the last one
            return False
        seen[0] += 1
        seen[1] += ns
        seen[2] = start + ns
        if seen[3] or seen[0] < most or seen[1] < least_ns:
            return False
        seen[3] = 1
        return True

    def worst(self, most: int, least_ns: int) -> tuple[str, int] | None:
        """The query that ran most often, without its values, and how often; None where none repeats that much."""
        found = _most(_by_shape(self._seen.copy(), most), most, least_ns)
        return (_shape(found[0]), found[1]) if found is not None else None

    def _thin(self, most: int) -> None:
        """Make room: one entry for each shape, and if that is not enough those go that ran once."""
        left = _by_shape(self._seen.copy(), most)
        if len(left) > _MAX_TEXTS // 2:
            left = {key: seen for key, seen in left.items() if seen[0] > 1}
        self._seen = left if len(left) <= _MAX_TEXTS // 2 else {}


def _shape(text: str) -> str:
    from otel_sentry.privacy import scrub_statement  # not at start-up: its tables take time

    return scrub_statement(text)


def _most(seen: dict[tuple[int, str], list[int]], most: int, least_ns: int) -> tuple[str, int] | None:
    fits = [(one[0], key[1]) for key, one in seen.items() if one[0] >= most and one[1] >= least_ns]
    if not fits:
        return None
    count, text = max(fits)
    return text, count


def _by_shape(seen: dict[tuple[int, str], list[int]], most: int) -> dict[tuple[int, str], list[int]]:
    """Entries joined whose texts differ in their values only. Looked at closely only where enough begin alike."""
    alike: dict[tuple[int, str], int] = {}
    for (parent_id, text), one in seen.items():
        beginning = (parent_id, text[:_BEGINNING])
        alike[beginning] = alike.get(beginning, 0) + one[0]
    joined: dict[tuple[int, str], list[int]] = {}
    for (parent_id, text), one in seen.items():
        if alike[parent_id, text[:_BEGINNING]] >= most:
            text = _shape(text)
        known = joined.setdefault((parent_id, text), [0, 0, 0, 0])
        known[0] += one[0]
        known[1] += one[1]
        known[2] = max(known[2], one[2])
        known[3] |= one[3]
    return joined
