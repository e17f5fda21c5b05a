"""Lifetimes inside the pipeline: races, accounts, bounds (decisions 16, 18, 20; sentry-opentelemetry.md 4.1 to 4.6).

What arrives at a server is in tests/contract/test_lifetimes_wire.py.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from otel_sentry import counters
from otel_sentry.trace import buffer
from otel_sentry.trace.segment import Segment, Table, segment_of, table
from otel_sentry.trace.tracestate import Decision
from tests.unit.test_pipeline import Rig


@pytest.fixture(autouse=True)
def _empty() -> None:
    table.clear()
    buffer.total.bytes = 0


def names(segments: list[Segment]) -> Counter[str]:
    """How often each span was sent, as a root or below one."""
    found = Counter(segment.root.name for segment in segments if segment.root is not None and not segment.is_part)
    found.update(span.name for segment in segments for span in segment.spans)
    return found


def under(span: Any) -> Context:
    return set_span_in_context(span)


def test_top_of_climbs_unfinished_spans_only() -> None:
    """The highest unfinished ancestor that is reached without a gap; None above a finished parent."""
    segment = Segment(1, 1, None, Decision(True))
    segment.open = {2: 1, 3: 2, 5: 4}
    assert (segment.top_of(3), segment.top_of(2), segment.top_of(5), segment.top_of(4)) == (2, 2, 5, None)
    assert segment.top_of(None) is None
    segment.open = {2: 3, 3: 2}
    assert segment.top_of(2) in (2, 3), "a circle ends too"


def test_late_subtrees_under_many_threads() -> None:
    """16 threads x 30 late trees, ends and encoding in any order: each span leaves exactly once, nothing is left."""
    rig = Rig(late_grace=0.0)
    stop = threading.Event()

    def encode() -> None:
        while not stop.is_set() or rig.outbox.items:
            if rig.outbox.items:
                rig.outbox.items.pop(0).encode()

    def work(number: int) -> None:
        for turn in range(30):
            root = rig.tracer.start_span("root", context=Context())
            middle = rig.tracer.start_span("middle", context=under(root))
            leaves = [rig.tracer.start_span("leaf", context=under(middle)) for _ in range(4)]
            order = [root, middle, *leaves]
            turned = (number + turn) % len(order)
            ends = [threading.Thread(target=one.end) for one in order[turned:] + order[:turned]]
            for thread in ends:
                thread.start()
            for thread in ends:
                thread.join()

    encoder = threading.Thread(target=encode)
    encoder.start()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    encoder.join()
    assert names(rig.encoded) == {"root": 480, "middle": 480, "leaf": 1920}
    assert not len(table) and counters.snapshot() == {}
    assert abs(buffer.total.bytes) < 100_000, "what races cost is repaired by a recount"


def test_what_waits_for_a_forgotten_span_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late group whose span the table forgets leaves without it: the encoder makes roots of it."""
    rig = Rig()
    root = rig.tracer.start_span("root")
    never = rig.tracer.start_span("never ended", context=under(root))
    root.end()
    rig.drain()
    rig.tracer.start_span("waits", context=under(never)).end()
    assert rig.outbox.items == []
    monkeypatch.setattr(table, "limit", 1)
    rig.tracer.start_span("new", context=Context())
    orphans = rig.drain()[-1]
    assert orphans.root is None and [span.name for span in orphans.spans] == ["waits"]
    assert orphans.late_of == root.get_span_context().span_id


def test_the_account_is_even() -> None:
    """Bytes held are nil once everything has left: sampled, unsampled with rules or without, late."""
    for member in ("s:1;r:1;x:0.1", "s:0;r:0.1;x:0.5"):
        rig = Rig(member)
        root = rig.tracer.start_span("root")
        late = rig.tracer.start_span("late", context=under(root))
        for _ in range(10):
            rig.tracer.start_span("s", context=under(root)).end()
        segment = segment_of(root.get_span_context())
        assert segment is not None
        assert buffer.total.bytes == (segment.size if segment.sampled else 0)
        root.end()
        rig.drain()
        late.end()
        rig.drain()
        assert buffer.total.bytes == 0


def test_size_counts_texts_and_events() -> None:
    """The estimate grows with what a span holds."""
    rig = Rig()
    with rig.tracer.start_as_current_span("root"):
        for attributes, event in (
            ({}, None),
            ({"a": "x" * 5000}, None),
            ({"a": ("y" * 100,) * 10}, None),
            ({}, "z" * 700),
        ):
            span = rig.tracer.start_span("s", attributes=attributes)
            if event:
                span.add_event("e", {"text": event})
            span.end()
    plain, text, several, event_ = (buffer.size_of(span) for span in rig.drain()[0].spans)
    assert text - plain == 5000 and several - plain >= 1000 and event_ - plain >= 700


def test_thinning_keeps_failures_and_the_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """By value, in the order of their ends, within number and bytes."""
    monkeypatch.setattr(buffer, "MAX_SPANS", 10)
    rig = Rig()
    with rig.tracer.start_as_current_span("root"):
        for number in range(11):
            span = rig.tracer.start_span(f"s{number}", start_time=1)
            if number == 2:
                span.set_status(Status(StatusCode.ERROR))
            span.end(1 + (1000 if number in (4, 7) else number))
    (segment,) = rig.drain()
    assert [span.name for span in segment.spans] == ["s2", "s4", "s7", "s9", "s10"]


def test_a_forgotten_entry_is_the_oldest_idle_one() -> None:
    """Children and idle roots go first; with busy roots only, one of them goes after eight chances."""
    own = Table(limit=2)

    class At:
        def __init__(self, span_id: int) -> None:
            self.trace_id, self.span_id = 1, span_id

    busy, idle = Segment(1, 1, None, Decision(True)), Segment(1, 2, None, Decision(True))
    busy.open = {1: None, 9: 1}
    idle.open = {2: None}
    assert own.add(At(1), busy) is None and own.add(At(2), idle) is None  # type: ignore[arg-type]
    assert own.add(At(3), Segment(1, 3, None, Decision(True))) == (2, idle)  # type: ignore[arg-type]
    own.limit = 1
    assert own.add(At(4), busy) is not None  # type: ignore[arg-type]
    assert len(own) <= 3


def test_parts_leave_before_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where spans can leave alone they do so in parts, one at a time; the root then is no part."""
    monkeypatch.setattr(buffer, "PART_SPANS", 5)
    rig = Rig(spills=True)
    with rig.tracer.start_as_current_span("root"):
        for number in range(7):
            rig.tracer.start_span(f"s{number}").end()
        assert len(rig.outbox.items) == 1, "the second part waits until the first has left"
        rig.drain()
        for number in range(7, 12):
            rig.tracer.start_span(f"s{number}").end()
        rig.drain()
    parts = rig.drain()
    assert [(segment.is_part, len(segment.spans)) for segment in parts] == [(True, 5), (True, 5), (False, 2)]
    assert sum(names(parts).values()) == 13 and buffer.total.bytes == 0


def test_unsampled_spans_are_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a segment that is not sent late children are not sent either."""
    rig = Rig("s:0")
    root = rig.tracer.start_span("root")
    late = rig.tracer.start_span("late", context=under(root))
    root.end()
    late.end()
    assert rig.drain() == [] and not len(table)


def test_exit_sends_what_waits() -> None:
    """`finish_open`: a root with finished children, marked; an idle one not; what waits for unfinished late spans."""
    rig = Rig()
    root = rig.tracer.start_span("root")
    rig.tracer.start_span("done", context=under(root)).end()
    rig.tracer.start_span("idle", context=Context())
    gone = rig.tracer.start_span("gone", context=Context())
    step = rig.tracer.start_span("step", context=under(gone))
    gone.end()
    rig.drain()
    rig.tracer.start_span("below step", context=under(step)).end()
    rig.encoded.clear()
    rig.pipeline.finish_open()
    assert names(rig.drain()) == {"root": 1, "done": 1, "below step": 1}
    (cut,) = [segment for segment in rig.encoded if segment.root is not None]
    assert cut.unfinished and cut.root is not None and cut.root.end_time == cut.spans[0].end_time
