"""Finished spans that wait for their root: bounded by number and bytes, for a segment and for the process.

What does not fit is chosen by value (failed spans, then the longest) and counted; nothing is dropped for its age.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry.trace import StatusCode

from otel_sentry import counters
from otel_sentry.copies import copied
from otel_sentry.trace.segment import table

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.trace.segment import Segment

#: Spans of one segment. At this bound the less valuable half goes.
MAX_SPANS = 10_000
#: Spans that leave together before their root has ended, where that can be done.
PART_SPANS = 2_000
#: Estimated bytes of one segment's spans.
MAX_BYTES = 16_000_000
#: Estimated bytes of all segments of the process; past it no segment holds more than `FEW` spans.
MAX_TOTAL_BYTES = 96_000_000
FEW = 200
#: A finished span's footprint without its texts, measured with ten attributes.
SPAN_BYTES = 900
_EVENT_BYTES = 400
_RECOUNT_S = 1.0


class _Total:
    """Bytes that all open segments hold. Like the counters: changed without a lock, since no call happens between
    reading and writing; what a race may cost all the same, `recount` repairs."""

    __slots__ = ("bytes", "counted_at")

    def __init__(self) -> None:
        self.bytes = 0
        self.counted_at = 0.0

    def recount(self) -> None:
        """The true sum, at most once a second."""
        now = time.monotonic()
        if now - self.counted_at >= _RECOUNT_S:
            self.counted_at = now
            self.bytes = sum(_held(segment) for segment in table.segments())


def _held(segment: Segment) -> int:
    own = segment.size if segment.root is None else 0
    return own + sum(group.size for group in list(segment.late.values()))


total = _Total()


def size_of(span: ReadableSpan) -> int:
    """Estimated bytes of a finished span in memory."""
    size = SPAN_BYTES
    for value in copied(span.attributes).values():
        if type(value) is str:
            size += len(value)
        elif type(value) is tuple:
            size += 16 * len(value) + sum(len(part) for part in value if type(part) is str)
    # The SDK builds a tuple whenever events are asked for.
    for event in span.events if getattr(span, "_events", True) else ():
        size += _EVENT_BYTES
        for value in copied(event.attributes).values():
            if type(value) is str:
                size += len(value)
    return size


def add(segment: Segment, span: ReadableSpan) -> bool:
    """Keep a finished span. False: the segment is past a bound, and has to be thinned out (`thin`) or sent in part."""
    size = size_of(span)
    segment.spans.append(span)
    segment.size += size
    segment.spared = False
    if segment.root is None:  # a finished segment's bytes are the sender's to count
        total.bytes += size
    if len(segment.spans) > MAX_SPANS or segment.size > MAX_BYTES:
        return False
    if total.bytes > MAX_TOTAL_BYTES and len(segment.spans) > FEW:
        total.recount()
        return total.bytes <= MAX_TOTAL_BYTES
    return True


def release(segment: Segment) -> None:
    """The segment's bytes are nobody's here any more: it goes to the sender, or is forgotten."""
    size = segment.size
    total.bytes -= size


def take_part(segment: Segment, most: int = sys.maxsize) -> tuple[deque[ReadableSpan], int]:
    """The *most* spans that ended first, and their estimated bytes."""
    before = max(len(segment.spans), 1)
    taken = take_all(segment.spans, most)
    size = segment.size if len(taken) >= before else segment.size * len(taken) // before
    segment.size -= size
    total.bytes -= size
    return taken, size


def take_all(spans: deque[ReadableSpan], most: int = sys.maxsize) -> deque[ReadableSpan]:
    """Empty a list of finished spans, safe against concurrent appends: each span is taken once."""
    taken: deque[ReadableSpan] = deque()
    while len(taken) < most:
        try:
            taken.append(spans.popleft())
        except IndexError:
            break
    return taken


def thin(segment: Segment) -> None:
    """Keep the more valuable half of a segment's spans (few where the whole process holds too much); count the rest."""
    crowded = total.bytes > MAX_TOTAL_BYTES
    most, room = (FEW if crowded else MAX_SPANS) // 2, MAX_BYTES // 2
    taken = list(take_all(segment.spans))
    sizes = [size_of(span) for span in taken]
    ranked = sorted(range(len(taken)), key=lambda index: _value(taken[index]), reverse=True)
    kept, before = [], room
    for index in ranked[:most]:
        if sizes[index] <= room:
            room -= sizes[index]
            kept.append(index)
    segment.spans.extendleft(taken[index] for index in sorted(kept, reverse=True))
    # By the difference, since other threads may have added meanwhile.
    gone = min(sum(sizes) - (before - room), segment.size)
    segment.size -= gone
    if segment.root is None:
        total.bytes -= gone
    lost = len(taken) - len(kept)
    segment.dropped += lost
    if segment.sampled:  # of an unsampled segment nothing was promised; its root is counted
        counters.lost("buffer_overflow", "span", lost)


def _value(span: ReadableSpan) -> tuple[bool, int]:
    return span.status.status_code is StatusCode.ERROR, (span.end_time or 0) - (span.start_time or 0)


def last_end(spans: Iterable[ReadableSpan]) -> int:
    """The latest end among *spans*, in ns since the epoch."""
    return max((span.end_time or 0 for span in spans), default=0)
