"""The one span processor: ambient context onto each span, finished spans onto their segment, segments to the sender.

A segment becomes a Sentry transaction in `otel_sentry.sentry.transaction`, on the sender's thread. Nothing is converted
here: `on_start` is a dict look-up, `on_end` a list append.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.context import get_value
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_sentry import ambient, counters, guard
from otel_sentry.trace import buffer, rules, totals, tracestate
from otel_sentry.trace.item import SegmentItem, encoder
from otel_sentry.trace.locks import make_reentrant
from otel_sentry.trace.sampler import RATE_ATTRIBUTE, SentrySampler
from otel_sentry.trace.segment import NO_DECISION, Segment, remote_of, table
from otel_sentry.trace.tracestate import Decision

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.sampling import Sampler

    from otel_sentry.sentry.sender import Sender
    from otel_sentry.settings import Settings
    from otel_sentry.trace.item import Encode

__all__ = ["SegmentItem", "SpanPipeline", "encoder"]


class SpanPipeline(SpanProcessor):
    """`UserSpanProcessor`, `BusinessSpanProcessor` and `SentrySpanProcessor` in one pass.

    Args:
        sampler: decides for local roots that come without Sentry's decision (a provider that the user made).
        sender: where finished segments go; a function, since it may not exist yet; None: nowhere.
        encode: segment -> envelope or a list of them, called on the sender's thread.
        transactions: are the envelopes transactions (else spans)? What a lost segment counts as.
        max_breadcrumbs: spans that an unsampled segment keeps, for the breadcrumbs of its errors.
        late_grace: seconds that a finished root waits for its unfinished children.
        copy_ambient: put user and business context on each span.
        collect: gather segments; False leaves only the copying.
        keep: which segments are sent although they were not sampled (`rules.keep`).
        ignore_spans: rules (`rules.span_rules`) of spans below the root that are not sent.
        spills: what exceeds a segment's buffer leaves before its root has ended (else the least telling is dropped).
        on_begin: called with each sampled segment when its root starts.
        on_finish: called with each segment, sampled or not, and its finished root.
        on_slow: called with a segment, a span of it and what is to be said of that ("root", "query", "external",
            "repeated"); a root is still registered then, and has its end.

    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        *,
        sender: Callable[[], Sender | None] = lambda: None,
        encode: Encode | None = None,
        transactions: bool = True,
        max_breadcrumbs: int = 100,
        late_grace: float = 0.1,
        copy_ambient: tuple[str, ...] = ("user", "business"),
        collect: bool = True,
        on_begin: Callable[[Segment], None] | None = None,
        on_finish: Callable[[Segment, ReadableSpan], None] | None = None,
        on_slow: Callable[[Segment, ReadableSpan, str], None] | None = None,
        keep: rules.Keep | None = None,
        ignore_spans: tuple[str, ...] = (),
        spills: bool = False,
    ) -> None:
        self._sampler = sampler
        self._sender = sender
        self._encode = encode
        self._transactions = transactions
        self._max_breadcrumbs = max_breadcrumbs
        self._late_grace = late_grace
        self._copy_ambient = copy_ambient
        self._collect = collect
        self._on_begin = on_begin
        self._on_finish = on_finish
        self._on_slow = on_slow
        self._keep = keep
        self._ignored = rules.compiled(ignore_spans)
        self._spills = spills
        self._is_second = False

    def update(self, settings: Settings) -> None:
        """Take the settings of a later `configure`."""
        self._keep = settings.keep
        self._ignored = rules.compiled(settings.ignore_spans)
        totals.use(settings)

    @guard.call("span start")
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Join the span to its segment, or begin one."""
        make_reentrant(span)
        segment = self._join(span, parent_context) if self._collect else table.get(span.get_span_context())
        if self._copy_ambient:
            attributes = ambient.attributes_for(segment, parent_context, self._copy_ambient)
            if attributes:
                span.set_attributes(attributes)

    def _join(self, span: Span, parent_context: Context | None) -> Segment:
        span_context = span.get_span_context()
        parent = span.parent
        known = table.get(span_context)
        if known is not None:  # two of ours on one provider: the first one sends
            self._is_second = True
            return known
        segment = table.get(parent) if parent is not None and not parent.is_remote else None
        if segment is None:
            segment = self._begin(span, parent_context)
        segment.open[span_context.span_id] = parent.span_id if parent is not None else None
        if segment.profile is not None:
            segment.profile.note_thread(span_context.span_id)
        forgotten = table.add(span_context, segment)
        if forgotten is not None:
            self._forgotten(*forgotten)
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
        carried = get_value(ambient.CARRIED_KEY, parent_context)
        if isinstance(carried, ambient.Ambient):
            segment.user, segment.business = carried.user, carried.business
        if not segment.sampled:
            segment.keeping = self._may_keep(segment, span)
            if not segment.keeping:
                segment.spans = deque(maxlen=self._max_breadcrumbs)
        elif self._on_begin is not None:
            self._on_begin(segment)
        return segment

    def _may_keep(self, segment: Segment, span: Span) -> bool:
        """Could a keep rule want this segment? Not if a rule, and no rate, left it out, or nobody decided."""
        if self._keep is None or segment.decision.sampled is not False:
            return False
        return not (isinstance(self._sampler, SentrySampler) and self._sampler.leaves_out(span))

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

    def _on_ending(self, span: Span) -> None:
        """A root has its end time, and is still known: what is to be said of a slow one is said now."""
        parent = span.parent
        if (parent is not None and not parent.is_remote) or self._on_slow is None or self._is_second:
            return
        with guard.block("slow root"):
            segment = table.get(span.get_span_context())
            if segment is not None and totals.is_noticed(segment, span):
                self._on_slow(segment, span, "root")

    def _notice(self, segment: Segment, span: ReadableSpan, what: str) -> ReadableSpan:
        if self._on_slow is not None:
            with guard.block(f"slow {what}"):
                self._on_slow(segment, span, what)
        return span if what == "repeated" else totals.marked(span)

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
            self._end_unknown(span, span_context.span_id)
            return
        span_id = span_context.span_id
        if span_id == segment.span_id:
            segment.open.pop(span_id, None)
            self._finish(segment, span)
            return
        if segment.sent:
            segment.open.pop(span_id, None)
            self._end_late(segment, span, span_id)
            return
        noticed = totals.add(segment, span)
        if noticed is not None:
            span = self._notice(segment, span, noticed)
        if segment.sampled or segment.keeping:
            self._hold(segment, span)
        else:
            segment.spans.append(span)
        segment.open.pop(span_id, None)
        if segment.sent:
            for late in buffer.take_all(segment.spans):
                self._end_late(segment, late, late.context.span_id)
            if span_id in segment.late:  # encoded between the two lines above: nobody else looks after these
                self._send_orphans(segment.late.pop(span_id))

    def _hold(self, segment: Segment, span: ReadableSpan) -> None:
        """Buffer a finished span. Without room spans leave before their root if they can, else by value."""
        fits = buffer.add(segment, span)
        if self._spills and len(segment.spans) >= buffer.PART_SPANS and self._send_part(segment):
            return
        if not fits:
            buffer.thin(segment)

    def _send_part(self, segment: Segment) -> bool:
        """Send the oldest of a segment's spans; False when that can't be done now."""
        live, last = segment.live_root, segment.last_part
        if live is None or not segment.sampled or (last is not None and not last.sent):
            return False  # never two parts in the queue: they would push the transaction itself out of it
        part = copy.copy(segment)
        part.spans, part.size = buffer.take_part(segment, buffer.PART_SPANS)
        part.root = rules.with_changes(live, end_time=buffer.last_end(part.spans))
        part.is_part, part.open, part.dropped, part.profile = True, {}, 0, None
        segment.parts += 1
        part.parts, part.last_part = segment.parts, None
        segment.last_part = part
        self.put(part)
        return True

    def _end_unknown(self, span: ReadableSpan, span_id: int) -> None:
        """A span that the table had to forget, or that began before us: it leaves on its own."""
        if self._is_second:
            return
        context = span.context
        decision = tracestate.parse_member(context.trace_state.get(tracestate.KEY))
        if decision is not None and decision.sampled:
            segment = Segment(context.trace_id, span_id, span.parent.span_id if span.parent else None, decision)
            segment.root = span
            self.put(segment)

    def _finish(self, segment: Segment, root: ReadableSpan) -> None:
        segment.root = root = totals.completed(segment, root)
        segment.live_root = None
        if self._on_finish is not None:
            self._on_finish(segment, root)
        segment.request = segment.extra = segment.module = None
        buffer.release(segment)
        if self._keep is not None and (segment.sampled or segment.keeping):
            # Sampled ones too: whatever a rule wants is always here, so that each of them stands for itself alone.
            segment.kept = self._keep.wants(root, segment.failed)
        if segment.sampled:
            self.put(segment)
        elif segment.kept:
            self._take_losses_back(segment, root)
            self.put(segment)
        else:
            segment.sent = True
            segment.spans.clear()
        # References to exceptions by id mean something only while the code that raised them runs (decision 7).
        segment.seen_exceptions.clear()

    def _take_losses_back(self, segment: Segment, root: ReadableSpan) -> None:
        """The sampler counted this root as lost, unless the decision was the parent's; what was thinned out counts."""
        counters.lost("buffer_overflow", "span", segment.dropped)
        remote = segment.remote
        if remote is None or remote.sampled is None or RATE_ATTRIBUTE in (root.attributes or {}):
            is_ours = isinstance(self._sampler, SentrySampler)
            reason = self._sampler.loss_of(segment.decision) if is_ours else "sample_rate"  # type: ignore[union-attr]
            counters.take_back(reason, "transaction")
            counters.take_back(reason, "span")

    def _end_late(self, segment: Segment, span: ReadableSpan, span_id: int) -> None:
        """A span that ended after its segment had left: with all that waited for it, a transaction of its own.

        It is joined to the others by its parent's id. Below a span that is itself unfinished it waits for that one.
        """
        if not (segment.sampled or segment.kept):
            return
        top = segment.top_of(span.parent.span_id if span.parent else None)
        group = segment.late.pop(span_id, None)
        if top is None:
            self._send_late(group or _late_group(segment, span_id), span)
            return
        waiting = segment.late.get(top) or segment.late.setdefault(top, _late_group(segment, top))
        self._hold(waiting, span)
        if group is not None:
            buffer.release(group)
            for below in buffer.take_all(group.spans):
                self._hold(waiting, below)
        # In this order (add, then look) nothing is left behind when *top* ends, or its group is encoded, meanwhile.
        if top not in segment.open:
            abandoned = segment.late.pop(top, None)
            if abandoned is not None or waiting.sent:
                self._send_orphans(waiting)

    def _send_late(self, group: Segment, root: ReadableSpan) -> None:
        group.root = root
        group.parent_span_id = root.parent.span_id if root.parent else None
        buffer.release(group)
        self.put(group)

    def _send_orphans(self, group: Segment) -> None:
        """What waited for a span that nobody knows any more: the encoder makes a root of each that has no parent."""
        orphans = copy.copy(group)
        orphans.spans, orphans.size = buffer.take_part(group)
        if orphans.spans:
            self.put(orphans)

    def _forgotten(self, span_id: int, segment: Segment) -> None:
        """The table is full of unfinished spans and forgot one. When it ends all the same it leaves on its own."""
        guard.say_once("open_spans", f"{table.limit} unfinished spans: the oldest are forgotten; does nobody end them?")
        segment.open.pop(span_id, None)
        group = segment.late.pop(span_id, None)
        if group is not None:
            self._send_orphans(group)
        if span_id == segment.span_id and segment.root is None:
            self._cut_short(segment)

    def _cut_short(self, segment: Segment) -> None:
        """Send what has ended below a root that has not: with the root as it is now, marked as unfinished."""
        live = segment.live_root
        if live is None or segment.sent:
            return
        table.pop(live.get_span_context())
        segment.open.pop(segment.span_id, None)
        end = buffer.last_end(list(segment.spans))
        if not end or not (segment.sampled or segment.keeping):
            segment.sent = True
            buffer.release(segment)
            segment.spans.clear()
            return
        segment.unfinished = True
        self._finish(segment, rules.with_changes(live, end_time=end))

    @guard.call("unfinished segments")
    def finish_open(self) -> None:
        """The process ends: what has ended below unfinished spans is sent all the same."""
        for segment in table.segments():
            for group in list(segment.late.values()):
                self._send_orphans(group)
            if segment.root is None:
                self._cut_short(segment)

    def put(self, segment: Segment) -> None:
        """Hand a finished segment to the sender."""
        sender = self._sender()
        if sender is None or self._encode is None:
            return
        sender.put(SegmentItem(segment, self._encode, self._late_grace, sender.put, self._transactions, self._ignored))

    def shutdown(self) -> None:
        """Nothing: `otel_sentry.process` owns the exit and its budget."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what has ended. False when the time was too short."""
        sender = self._sender()
        return True if sender is None else sender.flush(timeout_millis / 1000)


def _late_group(segment: Segment, span_id: int) -> Segment:
    """An empty record for what ends below *span_id* after *segment* has left."""
    group = copy.copy(segment)
    group.span_id = span_id
    group.root = group.live_root = None
    group.spans = deque()
    group.open, group.late = {}, {}
    group.size = group.dropped = 0
    group.sent = group.unfinished = False
    group.late_of = segment.span_id
    group.profile = group.last_part = None
    return group
