"""The pipeline: spans join segments, finished segments go to the sender, nothing is lost without a count."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from otel_sentry import counters
from otel_sentry.trace import buffer
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.segment import Segment, current_segment, segment_of, table


class Outbox:
    """Stands for the sender: keeps the items, encodes them when told to."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def put(self, item: Any, urgent: bool = False) -> bool:
        self.items.append(item)
        return True

    def flush(self, timeout: float) -> bool:
        return True


class Rig:
    """A provider with our pipeline whose segments are kept as they would be encoded."""

    def __init__(self, member: str = "s:1;r:1;x:0.1", **options: Any) -> None:
        self.outbox = Outbox()
        self.encoded: list[Segment] = []
        self.pipeline = SpanPipeline(sender=lambda: self.outbox, encode=self.encode, **options)  # type: ignore[arg-type, return-value]
        provider = TracerProvider(sampler=_Fixed(member))
        provider.add_span_processor(self.pipeline)
        self.tracer = provider.get_tracer("test")

    def encode(self, segment: Segment) -> None:
        self.encoded.append(segment)

    def drain(self) -> list[Segment]:
        for item in self.outbox.items:
            item.encode()
        self.outbox.items.clear()
        return self.encoded


class _Fixed:
    """A sampler that writes a given tracestate member."""

    def __init__(self, member: str) -> None:
        self.member = member

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        result = ALWAYS_ON.should_sample(*args, **kwargs)
        state = TraceState([("sentry", self.member)]) if self.member else TraceState()
        return type(result)(result.decision, result.attributes, state)

    def get_description(self) -> str:
        return "fixed"


@pytest.fixture(autouse=True)
def _empty_table() -> None:
    table.clear()


def test_root_and_children_leave_as_one_segment() -> None:
    """Children that end before the root are on its segment, once; the table is empty afterwards."""
    rig = Rig()
    with rig.tracer.start_as_current_span("root") as root, rig.tracer.start_as_current_span("child"):
        assert segment_of(root.get_span_context()) is current_segment()
    (segment,) = rig.drain()
    assert segment.root is not None and segment.root.name == "root"
    assert [span.name for span in segment.spans] == ["child"]
    assert len(table) == 0


def test_remote_parent_is_a_local_root() -> None:
    """A span with a remote parent begins a segment of its own that keeps the parent's id."""
    rig = Rig()
    parent = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1))
    context = set_span_in_context(NonRecordingSpan(parent))
    with rig.tracer.start_as_current_span("server", context=context):
        pass
    (segment,) = rig.drain()
    assert (segment.trace_id, segment.parent_span_id) == (5, 6)


def test_late_child_is_not_lost() -> None:
    """A child that ends after its segment was encoded becomes a transaction of its own, joined by its parent's id."""
    rig = Rig()
    root = rig.tracer.start_span("root")
    child = rig.tracer.start_span("late", context=set_span_in_context(root))
    root.end()
    (item,) = rig.outbox.items
    assert not item.ready(item.not_before - 0.01) and item.ready(item.not_before + 0.01)
    rig.drain()
    child.end()
    first, second = rig.drain()
    assert [span.name for span in first.spans] == []
    assert second.root is not None and second.root.name == "late"
    assert second.late_of == first.span_id == second.parent_span_id


def test_child_within_the_grace_is_in_the_segment() -> None:
    """A child that ends after the root, before the segment is encoded, is in it; then nothing has to be waited for."""
    rig = Rig()
    root = rig.tracer.start_span("root")
    child = rig.tracer.start_span("late", context=set_span_in_context(root))
    root.end()
    child.end()
    (item,) = rig.outbox.items
    assert item.ready(0.0)
    (segment,) = rig.drain()
    assert [span.name for span in segment.spans] == ["late"]


def test_unsampled_segment_keeps_the_last_spans_only() -> None:
    """Decision 20: an unsampled segment holds at most max_breadcrumbs spans and sends nothing."""
    rig = Rig("s:0", max_breadcrumbs=3)
    with rig.tracer.start_as_current_span("root"):
        for number in range(10):
            rig.tracer.start_span(f"s{number}").end()
        segment = current_segment()
        assert segment is not None and [span.name for span in segment.spans] == ["s7", "s8", "s9"]
    assert rig.outbox.items == [] and not segment.spans


def test_spans_past_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the less valuable half makes room, with a reason and a count."""
    monkeypatch.setattr(buffer, "MAX_SPANS", 6)
    rig = Rig()
    with rig.tracer.start_as_current_span("root"):
        for number in range(10):
            rig.tracer.start_span(f"s{number}", start_time=100).end(101 if number != 1 else 900)
    (segment,) = rig.drain()
    names = [span.name for span in segment.spans]
    assert "s1" in names and len(names) == 6 and segment.dropped == 4
    assert counters.snapshot() == {("buffer_overflow", "span"): 4}


def test_forgotten_spans_leave_on_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of open spans is bounded; a root that it had to forget is still sent."""
    monkeypatch.setattr(table, "limit", 2)
    rig = Rig()
    roots = [rig.tracer.start_span(f"r{number}") for number in range(3)]
    for root in roots:
        root.end()
    assert sorted(segment.root.name for segment in rig.drain() if segment.root) == ["r0", "r1", "r2"]


def test_many_threads_lose_nothing() -> None:
    """20 threads x 50 segments x 5 spans, some ending late: every span is in exactly one segment."""
    rig = Rig()

    def work() -> None:
        for _ in range(50):
            root = rig.tracer.start_span("root")
            context = set_span_in_context(root)
            children = [rig.tracer.start_span("child", context=context) for _ in range(5)]
            for child in children[:3]:
                child.end()
            root.end()
            for child in children[3:]:
                child.end()

    stop = threading.Event()

    def encode() -> None:
        while not stop.is_set() or rig.outbox.items:
            if rig.outbox.items:
                rig.outbox.items.pop(0).encode()

    encoder = threading.Thread(target=encode)
    encoder.start()
    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    encoder.join()
    names = [s.root.name for s in rig.encoded if s.root] + [span.name for s in rig.encoded for span in s.spans]
    assert (names.count("root"), names.count("child")) == (1000, 5000)
    assert len(table) == 0


def test_started_under_a_finished_parent() -> None:
    """A span started after its parent ended is a local root that keeps the parent's id."""
    rig = Rig()
    root = rig.tracer.start_span("root")
    root.end()
    rig.tracer.start_span("after", context=set_span_in_context(root)).end()
    first, second = rig.drain()
    assert second.parent_span_id == first.span_id


def test_stock_sampler_is_decided_at_the_local_root() -> None:
    """Decision 4: where the tracer's sampler is not ours, the pipeline asks ours, once for the root."""
    asked: list[str] = []

    class Ours(_Fixed):
        def should_sample(self, parent: Any, trace_id: int, name: str, *args: Any) -> Any:
            asked.append(name)
            return super().should_sample(parent, trace_id, name, *args)

    outbox = Outbox()
    processor = SpanPipeline(Ours("s:0;r:0.5"), sender=lambda: outbox, encode=lambda segment: None)  # type: ignore[arg-type, return-value]
    provider = TracerProvider()
    provider.add_span_processor(processor)
    with provider.get_tracer("t").start_as_current_span("root"), provider.get_tracer("t").start_as_current_span("c"):
        segment = current_segment()
        assert segment is not None and segment.decision.sampled is False
    assert asked == ["root"] and outbox.items == []


def test_current_segment_outside_of_spans() -> None:
    """Without a live span there is no segment."""
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert current_segment() is None
    assert otel_context.get_current() is not None
