"""The store in this process's memory: for one process, and for tests. Bounded; what is oldest goes first."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from otel_sentry import counters

if TYPE_CHECKING:
    from otel_sentry.business.store import Document

MAX_KEYS = 20_000
MAX_SCHEDULED = 20_000


class Memory:
    """Used on the business worker only, so it needs no lock."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, Any]] = {}  # key -> when it expires (monotonic), value
        self._scheduled: dict[str, dict[str, float]] = {}

    def _get(self, key: str) -> Any:
        known = self._values.get(key)
        if known is None:
            return None
        if known[0] <= time.monotonic():
            del self._values[key]
            return None
        return known[1]

    def _put(self, key: str, value: Any, ttl_s: float) -> None:
        if key not in self._values and len(self._values) >= MAX_KEYS:
            self._make_room()
        self._values[key] = (time.monotonic() + ttl_s, value)

    def _make_room(self) -> None:
        now = time.monotonic()
        for key in [key for key, (until, _) in self._values.items() if until <= now]:
            del self._values[key]
        for key in list(self._values)[: max(0, len(self._values) - MAX_KEYS + MAX_KEYS // 10)]:
            del self._values[key]

    def first(self, key: str, ttl_s: float) -> bool:
        if self._get(key) is not None:
            return False
        self._put(key, True, ttl_s)
        return True

    def add(self, key: str, amount: int, ttl_s: float) -> int:
        value = self._get(key)
        if value is None:
            self._put(key, amount, ttl_s)
            return amount
        total: int = value + amount
        self._values[key] = (self._values[key][0], total)
        return total

    def take(self, key: str) -> int:
        value: int = self._get(key) or 0
        self.remove(key)
        return value

    def window(self, key: str, window_s: float, *, member: str | None = None, limit: int = 1000) -> int:
        now = time.monotonic()
        events: deque[tuple[float, str | None]] = self._get(key) or deque()
        if member is not None and any(known == member for _, known in events):
            events = deque((at, known) for at, known in events if known != member)
        events.append((now, member))
        while events and (events[0][0] <= now - window_s or len(events) > limit):
            events.popleft()
        self._put(key, events, window_s)
        return len(events)

    def distinct_add(self, key: str, member: str, ttl_s: float) -> int:
        known = self._get(key) or Distinct()
        known.add(member)
        self._put(key, known, ttl_s)
        return known.count()

    def load(self, key: str) -> Document | None:
        text = self._get(key)
        return json.loads(text) if text is not None else None

    def save(self, key: str, value: Document, ttl_s: float) -> None:
        self._put(key, json.dumps(value), ttl_s)  # as in Redis: no reference to what the caller holds

    def remove(self, key: str) -> None:
        self._values.pop(key, None)

    def change(self, key: str, function: Callable[[Document | None], Document | None], ttl_s: float) -> Document | None:
        value = function(self.load(key))
        if value is None:
            self.remove(key)
        else:
            self.save(key, value, ttl_s)
        return value

    def names(self, prefix: str, limit: int) -> list[str]:
        found = (key for key in list(self._values) if key.startswith(prefix) and self._get(key) is not None)
        return [key for key, _ in zip(found, range(limit), strict=False)]

    def schedule(self, key: str, member: str, at: float, ttl_s: float) -> None:
        times = self._scheduled.setdefault(key, {})
        times[member] = at
        if len(times) > MAX_SCHEDULED:
            del times[min(times, key=times.__getitem__)]
            counters.lost("queue_overflow", "business")

    def unschedule(self, key: str, member: str) -> None:
        self._scheduled.get(key, {}).pop(member, None)

    def due(self, key: str, now: float, limit: int) -> list[str]:
        times = self._scheduled.get(key, {})
        found = sorted((at, member) for member, at in times.items() if at <= now)[:limit]
        for _, member in found:
            del times[member]
        return [member for _, member in found]


class Distinct:
    """How many different members: exact for few, then HyperLogLog (Flajolet 2007) with 2048 registers, error 2.3 %."""

    EXACT = 256
    _BITS = 11

    def __init__(self) -> None:
        self._few: set[int] | None = set()
        self._registers = bytearray()
        self._sum = float(1 << self._BITS)  # of 2 ** -register

    def add(self, member: str) -> None:
        value = int.from_bytes(blake2b(member.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        if self._few is None:
            self._note(value)
            return
        self._few.add(value)
        if len(self._few) > self.EXACT:
            few, self._few = self._few, None
            self._registers = bytearray(1 << self._BITS)
            for known in few:
                self._note(known)

    def _note(self, value: int) -> None:
        index = value >> (64 - self._BITS)
        rest = value & ((1 << (64 - self._BITS)) - 1)
        rank = 64 - self._BITS - rest.bit_length() + 1
        if rank > self._registers[index]:
            self._sum += 2.0**-rank - 2.0 ** -self._registers[index]
            self._registers[index] = rank

    def count(self) -> int:
        if self._few is not None:
            return len(self._few)
        size = len(self._registers)
        estimate = 0.7213 / (1 + 1.079 / size) * size * size / self._sum
        empty = self._registers.count(0)
        if estimate <= 2.5 * size and empty:
            estimate = size * math.log(size / empty)
        return round(estimate)
