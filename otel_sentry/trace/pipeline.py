"""The one span processor: ambient context onto each span, finished spans onto their segment, segments to the sender.

A segment becomes a Sentry transaction in `otel_sentry.sentry.transaction`, on the sender's thread. Nothing is converted
here: `on_start` is a dict look-up, `on_end` a list append.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_sentry import ambient, counters, guard
from otel_sentry.trace import tracestate
from otel_sentry.trace.segment import NO_DECISION, Segment, remote_of, table
from otel_sentry.trace.tracestate import Decision

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.sampling import Sampler

    from otel_sentry.sentry.sender import Envelope, Sender

#: Spans of one sampled segment that wait in memory; what comes after them is dropped and counted.
MAX_BUFFERED_SPANS = 10_000
#: A finished span's footprint in the queue's byte bound, measured with ten attributes.
SPAN_BYTES = 900


class SegmentItem:
    """A finished segment in the sender's queue, encoded there."""

    __slots__ = ("_encode", "categories", "not_before", "segment", "size")

    def __init__(self, segment: Segment, encode: Callable[[Segment], Envelope | None], grace: float) -> None:
        self.segment = segment
        self._encode = encode
        self.size = SPAN_BYTES * (len(segment.spans) + 1)
        self.not_before = time.monotonic() + grace
        self.categories = (("transaction", 1), ("span", len(segment.spans) + 1))

    def ready(self, now: float) -> bool:
        """All children ended, or the grace for late ones is over."""
        return not self.segment.open or now >= self.not_before

    def encode(self) -> Envelope | None:
        """Take what has ended so far and make an envelope of it."""
        segment = self.segment
        # This order and the one in `on_end` (append, then look at `sent`) lose no span: it is either taken here
        # or seen as late there.
        segment.sent = True
        taken = copy.copy(segment)
        taken.spans = take_all(segment)
        return self._encode(taken)


def take_all(segment: Segment) -> deque[ReadableSpan]:
    """Empty the segment's list of finished spans, safe against concurrent appends."""
    taken: deque[ReadableSpan] = deque()
    while True:
        try:
            taken.append(segment.spans.popleft())
        except IndexError:
            return taken


class SpanPipeline(SpanProcessor):
    """`UserSpanProcessor`, `BusinessSpanProcessor` and `SentrySpanProcessor` in one pass.

    Args:
        sampler: decides for local roots that come without Sentry's decision (a provider that the user made).
        sender: where finished segments go; a function, since it may not exist yet; None: nowhere.
        encode: segment -> envelope, called on the sender's thread.
        max_breadcrumbs: spans that an unsampled segment keeps, for the breadcrumbs of its errors.
        late_grace: seconds that a finished root waits for its unfinished children.
        copy_ambient: put user and business context on each span.
        collect: gather segments; False leaves only the copying.

    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        *,
        sender: Callable[[], Sender | None] = lambda: None,
        encode: Callable[[Segment], Envelope | None] | None = None,
        max_breadcrumbs: int = 100,
        late_grace: float = 0.1,
        copy_ambient: tuple[str, ...] = ("user", "business"),
        collect: bool = True,
    ) -> None:
        self._sampler = sampler
        self._sender = sender
        self._encode = encode
        self._max_breadcrumbs = max_breadcrumbs
        self._late_grace = late_grace
        self._copy_ambient = copy_ambient
        self._collect = collect

    @guard.call("span start")
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Join the span to its segment, or begin one."""
        segment = self._join(span, parent_context) if self._collect else table.get(span.get_span_context())
        if self._copy_ambient:
            attributes = ambient.attributes_for(segment, parent_context, self._copy_ambient)
            if attributes:
                span.set_attributes(attributes)

    def _join(self, span: Span, parent_context: Context | None) -> Segment:
        span_context = span.get_span_context()
        parent = span.parent
        segment = table.get(parent) if parent is not None and not parent.is_remote else None
        if segment is None:
            segment = self._begin(span, parent_context)
        segment.open.add(span_context.span_id)
        evicted = table.add(span_context, segment)
        if evicted is not None:
            counters.lost("buffer_overflow", "span")
        return segment

    def _begin(self, span: Span, parent_context: Context | None) -> Segment:
        span_context = span.get_span_context()
        remote = remote_of(parent_context)
        if remote is not None and remote.trace_id != span_context.trace_id:
            remote = None
        segment = Segment(
            span_context.trace_id,
            span_context.span_id,
            span.parent.span_id if span.parent else None,
            self._decision(span, parent_context),
            remote,
            live_root=span,
        )
        if not segment.sampled:
            segment.spans = deque(maxlen=self._max_breadcrumbs)
        return segment

    def _decision(self, span: Span, parent_context: Context | None) -> Decision:
        """Sentry's decision: from the tracestate that our sampler wrote, else taken here (decision 4)."""
        span_context = span.get_span_context()
        decision = tracestate.parse_member(span_context.trace_state.get(tracestate.KEY))
        if decision is None and self._sampler is not None:
            result = self._sampler.should_sample(
                parent_context, span_context.trace_id, span.name, span.kind, span.attributes, ()
            )
            state = result.trace_state
            decision = tracestate.parse_member(state.get(tracestate.KEY)) if state else None
        return decision or NO_DECISION

    @guard.call("span end")
    def on_end(self, span: ReadableSpan) -> None:
        """Put the finished span on its segment; a finished root sends the segment off."""
        if not self._collect:
            return
        span_context = span.get_span_context()
        if span_context is None:
            return
        segment = table.pop(span_context)
        if segment is None:
            self._end_unknown(span)
            return
        if span_context.span_id == segment.span_id:
            segment.open.discard(span_context.span_id)
            self._finish(segment, span)
            return
        if segment.sampled and len(segment.spans) >= MAX_BUFFERED_SPANS:
            counters.lost("buffer_overflow", "span")
            segment.dropped += 1
        else:
            segment.spans.append(span)
        segment.open.discard(span_context.span_id)
        if segment.sent:
            self._send_late(segment)

    def _end_unknown(self, span: ReadableSpan) -> None:
        """A span that the table had to forget, or that began before us: it leaves on its own."""
        span_context = span.get_span_context()
        assert span_context is not None
        decision = tracestate.parse_member(span_context.trace_state.get(tracestate.KEY))
        if decision is not None and decision.sampled:
            segment = Segment(span_context.trace_id, span_context.span_id, None, decision)
            self._send_span(segment, span)

    def _finish(self, segment: Segment, root: ReadableSpan) -> None:
        segment.root = root
        segment.live_root = None
        segment.request = None
        if segment.sampled:
            self.put(segment)
        else:
            segment.sent = True
            segment.spans.clear()
        # References to exceptions by id mean something only while the code that raised them runs (decision 7).
        segment.seen_exceptions.clear()

    def _send_late(self, segment: Segment) -> None:
        """Children that ended after their segment had left: transactions of their own, joined by the parent's id."""
        for span in take_all(segment):
            if segment.sampled:
                self._send_span(segment, span)

    def _send_span(self, segment: Segment, span: ReadableSpan) -> None:
        span_context = span.get_span_context()
        assert span_context is not None
        late = copy.copy(segment)
        late.span_id = span_context.span_id
        late.parent_span_id = span.parent.span_id if span.parent else None
        late.root = span
        late.live_root = None
        late.spans = deque()
        late.open = set()
        late.late_of = segment.span_id
        self.put(late)

    def put(self, segment: Segment) -> None:
        """Hand a finished segment to the sender."""
        sender = self._sender()
        if sender is None or self._encode is None:
            return
        sender.put(SegmentItem(segment, self._encode, self._late_grace))

    def shutdown(self) -> None:
        """Nothing: `otel_sentry.process` owns the exit and its budget."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what has ended. False when the time was too short."""
        sender = self._sender()
        return True if sender is None else sender.flush(timeout_millis / 1000)


def encoder(common: Callable[[], Any]) -> Callable[[Segment], Envelope | None]:
    """Segment -> transaction envelope, with the module loaded at the first one."""

    def encode(segment: Segment) -> Envelope | None:
        from otel_sentry.sentry import transaction

        return transaction.encode(segment, common())

    return encode
