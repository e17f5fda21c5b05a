"""The sender's queue: bounded in items and bytes, errors first, and no lock anywhere.

`admit` runs on any thread, under the garbage collector, in signal handlers and in gevent's hub; it may
interrupt itself. So there are only deques, whose single operations are atomic, and two integers
that are corrected whenever all is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf

from otel_sentry import guard
from otel_sentry.sentry.outgoing import Outgoing

#: Items that wait for late children are looked at together, at most this often (seconds).
_LOOK_AGAIN_S = 0.02

Lane = deque[Outgoing]


class Lanes:
    """Deques for errors, other urgent items, and bulk items: as they arrived, not ready yet, and ready.

    `admit`, `full`, `fill` and `len` are for every thread; the rest is for the one that sends.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.count = 0  # items admitted and not yet done, the one in flight included
        self.bytes = 0  # of these
        self.due = inf  # monotonic time at which an item that waits aside may be ready
        self.errors: Lane = deque()
        self.urgent: Lane = deque()
        self.ready: Lane = deque()
        self.bulk: Lane = deque()
        self.aside: Lane = deque()

    def __len__(self) -> int:
        return len(self.errors) + len(self.urgent) + len(self.ready) + len(self.bulk) + len(self.aside)

    def fill(self) -> float:
        """How full it is: 1.0 is full by items or bytes."""
        return max(self.count / self.max_items, self.bytes / self.max_bytes)

    def full(self, size: int) -> bool:
        """Is there no room for an item of *size* bytes?"""
        return self.count >= self.max_items or self.bytes + size > self.max_bytes

    def admit(self, item: Outgoing, urgent: bool) -> Iterable[Outgoing]:
        """Queue *item*; what had to go for it is returned (which may be *item* itself)."""
        size = item.size
        lane = self.bulk
        if urgent:
            lane = self.errors if is_error(item) else self.urgent
        gone: Iterable[Outgoing] = ()
        if self.count >= self.max_items or self.bytes + size > self.max_bytes:
            gone, fits = self._make_room(size, lane)
            if not fits:
                return [*gone, item]
        self.count += 1
        self.bytes += size
        lane.append(item)
        return gone

    def _make_room(self, size: int, lane: Lane) -> tuple[list[Outgoing], bool]:
        """Drop the newest items of lesser lanes; whether there is room now."""
        gone: list[Outgoing] = []
        if lane is self.bulk or size > self.max_bytes:
            return gone, False
        lesser = [self.bulk, self.aside, self.ready]
        if lane is self.errors:
            lesser.append(self.urgent)
        for victims in lesser:
            while self.full(size):
                try:
                    victim = victims.pop()
                except IndexError:  # empty, or another thread was faster
                    break
                self.count -= 1
                self.bytes -= victim.size
                gone.append(victim)
        return gone, not self.full(size)

    def pop(self, now: float, force: bool) -> tuple[Outgoing, Lane] | None:
        """The next item to send at *now* (monotonic seconds), and its lane; *force*: whether ready or not."""
        for lane in (self.errors, self.urgent, self.ready):
            if lane:
                try:
                    return lane.popleft(), lane
                except IndexError:  # evicted meanwhile
                    pass
        self._collect(now, force)
        try:
            return self.ready.popleft(), self.ready
        except IndexError:
            return None

    def waiting(self, force: bool) -> bool:
        """Is there anything that `pop` has not looked at yet, or would give now?"""
        return bool(self.errors or self.urgent or self.ready or self.bulk or (force and self.aside))

    def _collect(self, now: float, force: bool) -> None:
        """Sort new bulk items, and those aside when it is their time, into ready and not ready."""
        lanes = [self.bulk]
        due = self.due
        if force or now >= due:
            lanes.append(self.aside)
            due = inf
        for lane in reversed(lanes):
            for _ in range(len(lane)):
                try:
                    item = lane.popleft()
                except IndexError:
                    break
                if force or is_ready(item, now):
                    self.ready.append(item)
                else:
                    self.aside.append(item)
                    due = min(due, max(item.not_before, now + _LOOK_AGAIN_S))
        self.due = due

    def put_back(self, item: Outgoing, lane: Lane) -> None:
        """Queue again what could not be sent now, behind its equals: one bad item must not block the rest."""
        lane.append(item)

    def done(self, size: int) -> None:
        """An item of *size* bytes was dealt with."""
        self.count -= 1
        self.bytes -= size
        if not len(self):
            self.count = self.bytes = 0  # two threads can lose an update where there is no GIL

    def clear(self) -> list[Outgoing]:
        """Take everything out."""
        left: list[Outgoing] = []
        for lane in (self.errors, self.urgent, self.ready, self.bulk, self.aside):
            left.extend(lane)
            lane.clear()
        self.count = self.bytes = 0
        self.due = inf
        return left


def is_error(item: Outgoing) -> bool:
    """Is *item* an error event, the last to be given up?"""
    categories = item.categories
    return bool(categories) and categories[0][0] == "error"


@guard.call("sender.ready", default=True)
def is_ready(item: Outgoing, now: float) -> bool:
    """`Outgoing.ready`; an item that fails to answer is ready."""
    return item.ready(now)
