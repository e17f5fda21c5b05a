"""Lifetimes as they arrive at a server, each checked by Relay (sentry-opentelemetry.md 4.1 to 4.6), and what other
Sentry SDKs do instead and we refused, with the reason."""

from __future__ import annotations

import contextvars
import gc
import resource
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from otel_sentry import counters, process
from otel_sentry.cli.receiver import Receiver
from otel_sentry.trace import buffer
from otel_sentry.trace.propagator import SentryPropagator
from otel_sentry.trace.segment import table
from tests.support.wire import Wire, children, trace, wired

HOUR = 3600 * 1_000_000_000


@pytest.fixture
def wire(receiver: Receiver) -> Iterator[Wire]:
    with wired(receiver, late_grace=0.0) as one:
        yield one


def hexed(span: Any) -> str:
    return format(span.get_span_context().span_id, "016x")


def under(span: Any) -> Context:
    return set_span_in_context(span)


# 4.2, 4.3: the root ends first


def test_late_child(wire: Wire) -> None:
    """A transaction of its own: same trace, parent's id, marked; nothing counted as lost."""
    root = wire.tracer.start_span("root")
    late = wire.tracer.start_span("late", context=under(root))
    root.end()
    wire.flush()
    late.end()
    found = wire.by_name()
    assert trace(found["late"])["trace_id"] == trace(found["root"])["trace_id"]
    assert trace(found["late"])["parent_span_id"] == hexed(root)
    assert trace(found["late"])["data"]["sentry.parent_span_already_sent"] is True
    assert trace(found["root"])["data"]["sentry.unfinished_spans"] == 1
    assert counters.snapshot() == {}


def test_late_subtree_is_one_transaction(wire: Wire) -> None:
    """What ends below an unfinished span waits for it: one transaction with its spans, not one for each."""
    root = wire.tracer.start_span("root")
    job = wire.tracer.start_span("job", context=under(root))
    root.end()
    wire.flush()
    step = wire.tracer.start_span("step", context=under(job))
    for number in range(5):
        wire.tracer.start_span(f"row {number}", context=under(step)).end()
    step.end()
    job.end()
    found = wire.by_name()
    assert sorted(found) == ["job", "root"]
    below = children(found["job"])
    assert len(below) == 6 and below["step"]["parent_span_id"] == hexed(job)
    assert all(below[f"row {number}"]["parent_span_id"] == hexed(step) for number in range(5))


def test_grandchild_that_outlives_its_late_parent(wire: Wire) -> None:
    """It leaves after it, on its own, with its parent's id."""
    root = wire.tracer.start_span("root")
    job = wire.tracer.start_span("job", context=under(root))
    step = wire.tracer.start_span("step", context=under(job))
    root.end()
    wire.flush()
    job.end()
    wire.flush()
    step.end()
    assert trace(wire.by_name()["step"])["parent_span_id"] == hexed(job)


def test_unfinished_middle_span(wire: Wire) -> None:
    """It is left out until it ends; its finished children hang on the nearest finished ancestor, here `outer`."""
    root = wire.tracer.start_span("root")
    outer = wire.tracer.start_span("outer", context=under(root))
    middle = wire.tracer.start_span("middle", context=under(outer))
    deeper = wire.tracer.start_span("deeper", context=under(middle))
    wire.tracer.start_span("leaf", context=under(deeper)).end()
    outer.end()
    root.end()
    wire.flush()
    below = children(wire.by_name()["root"])
    assert sorted(below) == ["leaf", "outer"]
    assert below["leaf"]["parent_span_id"] == hexed(outer)
    deeper.end()
    middle.end()
    late = wire.by_name()["middle"]
    assert trace(late)["parent_span_id"] == hexed(outer) and list(children(late)) == ["deeper"]


def test_started_after_the_root_ended(wire: Wire) -> None:
    """A span begun under an ended parent is a local root that keeps its parent's id and the trace's decision."""
    root = wire.tracer.start_span("root")
    root.end()
    wire.tracer.start_span("after", context=under(root)).end()
    found = wire.by_name()
    assert trace(found["after"])["parent_span_id"] == hexed(root)


def test_child_within_the_grace(receiver: Receiver) -> None:
    """A child that ends within `late_grace` is in its root's transaction: one, as in the browser."""
    with wired(receiver, late_grace=5.0) as wire:
        root = wire.tracer.start_span("root")
        late = wire.tracer.start_span("late", context=under(root))
        root.end()
        late.end()
        assert list(children(wire.by_name()["root"])) == ["late"]


# 4.4, 4.5: long and large


def test_a_root_that_ran_for_three_days(wire: Wire) -> None:
    """No age limit: root and children of any age leave together."""
    now = time.time_ns()
    root = wire.tracer.start_span("import", start_time=now - 72 * HOUR)
    for hours in (71, 40, 1):
        child = wire.tracer.start_span(f"{hours} h ago", context=under(root), start_time=now - hours * HOUR)
        child.end(now - hours * HOUR + 5)
    root.end(now)
    (event,) = wire.sent(check=False)
    assert list(children(event)) == ["71 h ago", "40 h ago", "1 h ago"]
    assert event["timestamp"] - event["start_timestamp"] == pytest.approx(72 * 3600)


QUERY = {"db.system": "postgresql", "db.statement": "INSERT INTO post VALUES (%s)"}


def big_task(wire: Wire, number: int) -> float:
    """One task with *number* spans, without any other work; the MB of memory that it cost at its worst."""
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with wire.tracer.start_as_current_span("run/import", kind=SpanKind.CONSUMER):
        for row in range(number):
            span = wire.tracer.start_span("INSERT", kind=SpanKind.CLIENT, attributes=QUERY)
            if row % 20_000 == 7:
                span.set_status(Status(StatusCode.ERROR, "duplicate"))
            span.end()
    scale = 1024 if sys.platform != "darwin" else 1024 * 1024
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / scale


@pytest.mark.slow
@pytest.mark.once
def test_a_hundred_thousand_spans(receiver: Receiver) -> None:
    """One task: produced = sent + counted; memory bounded; the failed spans are among those sent."""
    with wired(receiver, overflow="drop") as wire:
        grown = big_task(wire, 100_000)
        (event,) = wire.sent(check=False)
        process.shutdown()
        lost = wire.losses()
    assert len(event["spans"]) + lost["buffer_overflow", "span"] == 100_000
    assert sum(span["status"] != "ok" for span in event["spans"]) == 5
    assert trace(event)["data"]["sentry.dropped_span_count"] == lost["buffer_overflow", "span"]
    assert len(event["spans"]) == 1000
    assert grown < 120, f"{grown:.0f} MB"
    assert not len(table)


@pytest.mark.slow
@pytest.mark.once
def test_spans_leave_while_the_task_runs(receiver: Receiver) -> None:
    """As span v2: produced = sent + counted, each once, below one segment, and its transaction is not pushed out.

    (100,000 spans with 0.2 ms of other work at each: all arrived, none lost, 23 MB more memory.)
    """
    with wired(receiver, overflow="span") as wire:
        grown = big_task(wire, 30_000)
        wire.flush(60)
        (event,) = wire.sent(check=False)
        process.shutdown()
        lost = sum(count for (_, category), count in wire.losses().items() if category == "span")
        singles = [span for item in receiver.items("span") for span in item["items"]]
    ids = [span["span_id"] for span in singles] + [span["span_id"] for span in event["spans"]]
    assert len(ids) == len(set(ids)) and len(ids) + lost == 30_000
    assert len(singles) >= 3 * buffer.PART_SPANS
    assert {span["attributes"]["sentry.segment.id"]["value"] for span in singles} == {trace(event)["span_id"]}
    assert {span["parent_span_id"] for span in singles} == {trace(event)["span_id"]}
    assert grown < 150, f"{grown:.0f} MB"


def test_few_but_huge_spans(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is in bytes too: 400 spans of 100 kB are 40 MB, of which at most 16 wait."""
    with wired(receiver, overflow="drop") as wire:
        with wire.tracer.start_as_current_span("root"):
            for number in range(400):
                wire.tracer.start_span("row", attributes={"text": f"{number:06d}" + "x" * 100_000}).end()
            held = buffer.total.bytes
        (event,) = wire.sent(check=False)
        process.shutdown()
        assert len(event["spans"]) + wire.losses()["buffer_overflow", "span"] == 400
    assert held <= buffer.MAX_BYTES and buffer.total.bytes == 0


def test_many_open_roots_share_one_bound(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process as a whole is bounded: a thousand streams that never end hold some spans each, and all is counted."""
    monkeypatch.setattr(buffer, "MAX_TOTAL_BYTES", 2_000_000)
    monkeypatch.setattr(buffer, "FEW", 20)
    monkeypatch.setattr(buffer, "_RECOUNT_S", 0.0)
    roots = [wire.tracer.start_span(f"stream {number}") for number in range(50)]
    for _ in range(100):
        for root in roots:
            wire.tracer.start_span("message", context=under(root)).end()
    assert buffer.total.bytes <= 2_000_000 + 50 * 1000
    for root in roots:
        root.end()
    sent = sum(len(event["spans"]) for event in wire.sent(check=False))
    assert sent + counters.snapshot()["buffer_overflow", "span"] == 5000
    assert buffer.total.bytes == 0


def test_the_process_ends_with_a_root_open(receiver: Receiver) -> None:
    """4.8: what has ended below an unfinished root is sent at exit, with the root as it is then, marked."""
    with wired(receiver) as wire:
        root = wire.tracer.start_span("consume forever", attributes={"k": 1})
        wire.tracer.start_span("message", context=under(root)).end()
        wire.tracer.start_span("nothing below it")
        process.shutdown()
        (event,) = wire.sent()
    assert event["transaction"] == "consume forever" and list(children(event)) == ["message"]
    assert trace(event)["data"]["sentry.unfinished"] is True and trace(event)["span_id"] == hexed(root)


def test_a_root_that_the_table_forgot(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """4.5: on eviction what is there is sent; its later end, and late children, are not lost either."""
    monkeypatch.setattr(table, "limit", 4)
    root = wire.tracer.start_span("forgotten")
    wire.tracer.start_span("done", context=under(root)).end()
    leaked = [wire.tracer.start_span(f"leak {number}") for number in range(30)]
    wire.flush()
    (first,) = wire.receiver.transactions
    assert first["transaction"] == "forgotten" and list(children(first)) == ["done"]
    assert trace(first)["data"]["sentry.unfinished"] is True
    root.end()
    for span in leaked:
        span.end()
    names = [event["transaction"] for event in wire.sent()]
    assert sorted(names) == sorted(["forgotten", "forgotten", *(f"leak {number}" for number in range(30))])
    assert len(table) <= 4 and counters.snapshot() == {}


def test_a_busy_root_is_forgotten_last(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that nobody ends push each other out, not the long task that goes on beside them."""
    monkeypatch.setattr(table, "limit", 10)
    with wire.tracer.start_as_current_span("long task"):
        for number in range(100):
            wire.tracer.start_span("leaked", context=Context())
            wire.tracer.start_span(f"row {number}").end()
    (event,) = wire.sent()
    assert event["transaction"] == "long task" and len(event["spans"]) == 100


# Processes, providers, threads


def test_client_and_server_in_one_process(wire: Wire) -> None:
    """A call to oneself: the remote parent lives here; the server's span is a transaction of its own."""
    propagator = SentryPropagator()
    with wire.tracer.start_as_current_span("client root"):
        with wire.tracer.start_as_current_span("GET", kind=SpanKind.CLIENT) as call:
            carrier: dict[str, str] = {}
            propagator.inject(carrier)
            arrived = propagator.extract(carrier, Context())
            with wire.tracer.start_as_current_span("GET /here", context=arrived, kind=SpanKind.SERVER):
                wire.tracer.start_span("query").end()
    found = wire.by_name()
    server = next(event for name, event in found.items() if name != "client root")
    assert trace(server)["parent_span_id"] == hexed(call) and list(children(server)) == ["query"]
    assert trace(server)["trace_id"] == trace(found["client root"])["trace_id"]


def test_many_providers(wire: Wire) -> None:
    """One table for the process: a span of another provider joins the segment that it was started in."""
    other = TracerProvider(sampler=wire.built.sampler, shutdown_on_exit=False)
    other.add_span_processor(wire.built.pipeline)
    with wire.tracer.start_as_current_span("root"):
        other.get_tracer("library").start_span("theirs").end()
    other.get_tracer("library").start_span("alone").end()
    found = wire.by_name()
    assert sorted(found) == ["alone", "root"] and list(children(found["root"])) == ["theirs"]


def test_two_of_ours_on_one_provider(wire: Wire) -> None:
    """`SentrySpanProcessor` added to a provider that `configure` has set up: every transaction still comes once."""
    from otel_sentry import SentrySpanProcessor

    wire.provider.add_span_processor(SentrySpanProcessor())
    for _ in range(3):
        with wire.tracer.start_as_current_span("root"):
            wire.tracer.start_span("child").end()
    assert [len(event["spans"]) for event in wire.sent()] == [1, 1, 1]


def test_ended_in_another_thread_and_context(wire: Wire) -> None:
    """Who ends a span, and where, makes no difference (S4: it must not change user or tags either)."""
    root = wire.tracer.start_span("root")
    child = wire.tracer.start_span("child", context=under(root))

    def end() -> None:
        with wire.tracer.start_as_current_span("other request"):
            child.end()
            root.end()

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    found = wire.by_name()
    assert list(children(found["root"])) == ["child"] and found["other request"]["spans"] == []


def test_ended_by_the_garbage_collector(wire: Wire) -> None:
    """A generator that is never exhausted ends its span when it is collected, at any allocation: nothing is lost."""

    def streaming() -> Iterator[int]:
        with wire.tracer.start_as_current_span("stream"):
            yield from range(10)

    def requests() -> None:
        for _ in range(50):
            circle: list[Any] = [streaming()]
            contextvars.copy_context().run(next, circle[0])
            circle.append(circle)
            wire.tracer.start_span("below", context=Context()).end()

    contextvars.copy_context().run(requests)
    # A collection that another thread has under way makes ours return at once; and Python 3.12 may keep the last
    # generator alive for as long as the test runs: that one has not ended.
    kept = int(sys.version_info >= (3, 12))
    deadline = time.monotonic() + 10
    while len(table) > kept and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    names = [event["transaction"] for event in wire.sent(check=False)]
    assert names.count("below") == 50 and 50 - kept <= names.count("stream") <= 50


def test_an_error_after_the_root_has_ended(wire: Wire) -> None:
    """Late spans keep their status: a background step that fails after the response is seen as failed."""
    root = wire.tracer.start_span("root")
    late = wire.tracer.start_span("mail", context=under(root))
    root.end()
    wire.flush()
    late.set_status(Status(StatusCode.ERROR, "no connection"))
    late.end()
    assert trace(wire.by_name()["mail"])["status"] == "internal_error"


# Choices of other SDKs that we refused


def test_refused_javascript_300_s(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """sentry-javascript drops finished children whose root has not ended 300 s later: of an hourly job all but the last
    five minutes would be missing. Ours are bounded by number and bytes, never by time."""
    now = time.time_ns()
    root = wire.tracer.start_span("job", start_time=now - HOUR)
    wire.tracer.start_span("early", context=under(root), start_time=now - HOUR).end(now - HOUR + 1)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 3600)
    root.end(now)
    monkeypatch.undo()
    assert list(children(wire.by_name()["job"])) == ["early"]


def test_refused_java_age_from_start(wire: Wire) -> None:
    """sentry-java throws spans away 5 min after their START, sentry-python 2.x 10 min (S5): a root of 11 min is never
    sent there, and its children shatter into transactions."""
    now = time.time_ns()
    root = wire.tracer.start_span("11 minutes", start_time=now - 11 * HOUR // 60)
    for number in range(3):
        wire.tracer.start_span(f"query {number}", context=under(root), start_time=now - 11 * HOUR // 60).end()
    root.end(now)
    (event,) = wire.sent()
    assert len(event["spans"]) == 3


def test_refused_potel_1000_per_parent(wire: Wire) -> None:
    """potel keeps the first 1000 children of each parent, and drops what fails after them: we drop by value, wherever
    in the tree, so that the late failure is there."""
    with wire.tracer.start_as_current_span("root"):
        for number in range(1500):
            with wire.tracer.start_as_current_span("row") as span:
                if number == 1499:
                    span.set_status(Status(StatusCode.ERROR))
    (event,) = wire.sent(check=False)
    assert len(event["spans"]) == 1000
    assert [span["status"] for span in event["spans"] if span["status"] != "ok"] == ["internal_error"]
    assert counters.snapshot() == {("buffer_overflow", "span"): 500}


def test_refused_python_and_ruby_drop_late_children(wire: Wire) -> None:
    """sentry-python 2.x (S6), sentry-ruby and sentry-go drop a child that ends after its root; it is often the very
    background work that somebody looks for."""
    root = wire.tracer.start_span("root")
    lates = [wire.tracer.start_span(f"late {number}", context=under(root)) for number in range(3)]
    root.end()
    wire.flush()
    for late in lates:
        late.end()
    assert sorted(wire.by_name()) == ["late 0", "late 1", "late 2", "root"]


def test_refused_python_self_call_is_no_child(wire: Wire) -> None:
    """sentry-python 2.x looks the parent up by id only, so that a call to oneself (S7) has no transaction."""
    test_client_and_server_in_one_process(wire)


def test_refused_unfinished_spans_with_an_invented_end(wire: Wire) -> None:
    """sentry-dotnet ends unfinished children with their root (`deadline_exceeded`). Then the real end has to go,
    or the span is there twice; we leave it out, say how many there were, and send it when it ends."""
    root = wire.tracer.start_span("root")
    late = wire.tracer.start_span("late", context=under(root))
    root.end()
    wire.flush()
    assert wire.receiver.transactions[0]["spans"] == []
    late.end()
    ids = [trace(event)["span_id"] for event in wire.sent()]
    assert ids == [hexed(root), hexed(late)]


def test_s4_the_users_do_not_mix(wire: Wire) -> None:
    """S4: sentry-python 2.x sends the user of the thread that ENDS the span; ours belongs to the segment."""
    from otel_sentry import set_user

    root = wire.tracer.start_span("request A")
    from opentelemetry import context as otel_context

    token = otel_context.attach(under(root))
    set_user({"id": "alice"})
    otel_context.detach(token)
    with wire.tracer.start_as_current_span("request B"):
        set_user({"id": "bob"})
        root.end()
    found = wire.by_name()
    assert (found["request A"]["user"]["id"], found["request B"]["user"]["id"]) == ("alice", "bob")


def test_s8_transactions_keep_their_own_trace(wire: Wire) -> None:
    """S8: sentry-python 2.x overwrites the trace of a transaction sent inside another span with that span's."""
    with wire.tracer.start_as_current_span("outer request") as outer:
        inner = wire.tracer.start_span("independent root", context=Context())
        inner.end()
    found = wire.by_name()
    assert trace(found["independent root"])["span_id"] == hexed(inner)
    assert trace(found["independent root"])["trace_id"] != trace(found["outer request"])["trace_id"]
    assert trace(found["outer request"])["span_id"] == hexed(outer)


# Keep rules on the wire


def test_kept_segment_weighs_one(receiver: Receiver) -> None:
    """Rate 0.25 said no, the request failed: it is there with weight 1 in event and envelope, while the service that it
    called was told the head's decision."""
    with wired(receiver, keep="error", traces_sample_rate=0.0) as wire:
        carrier: dict[str, str] = {}
        with wire.tracer.start_as_current_span("GET /x", kind=SpanKind.SERVER) as root:
            SentryPropagator().inject(carrier)
            wire.tracer.start_span("query").end()
            root.set_status(Status(StatusCode.ERROR))
        (event,) = wire.sent()
        assert wire.losses() == {}
    assert trace(event)["client_sample_rate"] == trace(event)["data"]["sentry.sample_rate"] == 1.0
    (header,) = [one.trace for one in receiver.envelopes if one.items[0].type == "transaction"]
    assert (header["sample_rate"], header["sampled"]) == ("1", "true")
    assert "sentry-sampled=false" in carrier["baggage"] and "sentry-sample_rate=0" in carrier["baggage"]
    assert carrier["sentry-trace"].endswith("-0")
    assert list(children(event)) == ["query"]
    assert propagate.get_global_textmap() is not None


def test_ignored_child_on_the_wire(receiver: Receiver) -> None:
    """Dropped, its children one level up, and reported as ignored."""
    with wired(receiver, ignore_spans="name=connect") as wire:
        with wire.tracer.start_as_current_span("root") as root:
            with wire.tracer.start_as_current_span("connect"):
                wire.tracer.start_span("query").end()
        (event,) = wire.sent()
        process.shutdown()
        assert wire.losses() == {("ignored", "span"): 1}
    assert children(event)["query"]["parent_span_id"] == hexed(root)
