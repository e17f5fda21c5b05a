"""Other backends: rate, queue, breaker, copies of spans, Datadog's names and headers."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, get_current_span

from otel_sentry import settings as table
from otel_sentry.backends import datadog, outlet, queue
from otel_sentry.backends.outlet import Outlet
from otel_sentry.backends.queue import Queue
from otel_sentry.backends.spans import Copies, SpanOutlet
from otel_sentry.sentry.transaction import Common, prepared
from otel_sentry.trace.datadog import PARENT_ID, PRIORITY, TAGS, TRACE_ID, DatadogPropagator
from otel_sentry.trace.rate import keeps
from otel_sentry.trace.segment import Segment
from otel_sentry.trace.tracestate import Decision

SETTINGS = table.load({}, environment="production")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No queue of one test is accounted for in another."""
    yield
    for one in queue.queues:
        one.account()
    queue.queues.clear()
    outlet.outlets.clear()


class Exporter:
    """Answers what the test says; keeps what it took."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.batches: list[list[Any]] = []
        self.shut = 0

    def export(self, batch: Any) -> SpanExportResult:
        answer = self.answers.pop(0) if self.answers else SpanExportResult.SUCCESS
        if isinstance(answer, str):
            logging.getLogger("opentelemetry.exporter.otlp.fake").error(answer)
            answer = SpanExportResult.FAILURE
        if answer is SpanExportResult.SUCCESS:
            self.batches.append(list(batch))
        return answer

    def shutdown(self) -> None:
        self.shut += 1


Exporter.__module__ = "opentelemetry.exporter.otlp.fake"


def _queue(exporter: Exporter, **wanted: Any) -> Queue:
    return Queue(Outlet("otlp", "traces", exporter), lambda item: item, **{"size": 100, "interval": 60.0, **wanted})


# The rate


@given(st.integers(1, 2**128 - 1), st.floats(0, 1), st.floats(0, 1))
def test_lower_rates_keep_a_part_of_what_higher_ones_keep(trace_id: int, one: float, other: float) -> None:
    """The highest of several rates decides whether a trace is recorded; 1 keeps all and 0 nothing."""
    low, high = sorted((one, other))
    assert keeps(trace_id, high) or not keeps(trace_id, low)
    assert keeps(trace_id, 1.0) and not keeps(trace_id, 0.0)


def test_the_rate_is_the_share() -> None:
    """10,000 random ids at 0.3: 0.3 of them, within four standard deviations."""
    import random

    draw = random.Random(7)
    kept = sum(keeps(draw.getrandbits(128), 0.3) for _ in range(10_000))
    assert abs(kept - 3000) < 4 * (10_000 * 0.3 * 0.7) ** 0.5


def test_only_sampled_spans_of_kept_traces_are_queued() -> None:
    """The sampler's flag and the backend's own rate, together."""
    exporter = Exporter()
    processor = SpanOutlet(Outlet("otlp", "traces", exporter), Copies(SETTINGS), 0.5)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    ids = []
    for _ in range(200):
        span = provider.get_tracer("t").start_span("x")
        ids.append(span.get_span_context().trace_id)
        span.end()
    assert processor.force_flush()
    assert [span.context.trace_id for batch in exporter.batches for span in batch] == [
        one for one in ids if keeps(one, 0.5)
    ]


# Queue and breaker


def test_a_full_queue_loses_the_oldest_and_counts() -> None:
    """100 places, 250 items while the backend is paused: 150 are lost and counted, the newest are there."""
    exporter = Exporter()
    one = _queue(exporter)
    one.outlet._failed("away")
    one.outlet._next_try = time.monotonic() + 60
    for number in range(250):
        one.put(number)
    assert len(one) == 100 and one.outlet.lost == {"queue_full": 150}
    one.outlet._next_try = 0
    assert one.flush(5) and exporter.batches == [list(range(150, 250))]
    assert one.outlet.delivered == 100 and one.outlet.failures == 0


def test_a_full_batch_leaves_before_the_interval() -> None:
    """512 items leave at once, one alone waits for others."""
    exporter = Exporter()
    one = _queue(exporter, size=2000)
    for number in range(600):
        one.put(number)
    deadline = time.monotonic() + 5
    while not exporter.batches and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert sum(map(len, exporter.batches)) == 512 + max(0, len(exporter.batches) - 1) * 88


def test_what_failed_is_tried_again_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """An outage: the batch goes back to the front, the pause doubles, one line with the reason, then all arrive."""
    exporter = Exporter(
        "Transient error Connection refused encountered while exporting spans batch, retrying in 1.03s."
    )
    one = _queue(exporter)
    one.put(1)
    one.put(2)
    assert not one.flush(5)  # it failed: the flush does not wait for the pause
    assert 1 < one.outlet.paused_s <= 2 and len(one) == 2
    one.put(3)
    one.outlet._next_try = 0
    assert one.flush(5) and exporter.batches == [[1, 2, 3]] and not one.outlet.lost
    said = capsys.readouterr().err
    assert said.count("can't be delivered (Transient error Connection refused") == 1 and "retrying" not in said


@pytest.mark.parametrize(
    "line",
    ["Failed to export spans batch code: 404, reason: Not Found",
     "Failed to export traces to x:1, error code: StatusCode.UNIMPLEMENTED, error details: no"],
)  # fmt: skip
def test_what_is_refused_is_lost_at_once(line: str) -> None:
    """A backend that says no for good: trying again would only hold up the others."""
    exporter = Exporter(line)
    one = _queue(exporter)
    one.put(1)
    one.flush(5)
    assert one.outlet.lost == {"refused": 1} and len(one) == 0 and one.outlet.failures == 1


@pytest.mark.parametrize("line", ["Failed to export spans batch code: 429, reason: busy", "code: 503", ""])
def test_what_may_work_later_is_kept(line: str) -> None:
    """Rate limits, server errors and silence: the batch waits."""
    one = _queue(Exporter(line))
    one.put(1)
    one.flush(5)
    assert len(one) == 1 and not one.outlet.lost


def test_a_batch_that_never_leaves_is_lost_after_six_tries() -> None:
    """So that one bad batch is not in the way for ever."""
    exporter = Exporter(*["code: 500"] * queue.MAX_TRIES)
    one = _queue(exporter)
    one.put(1)
    for _ in range(queue.MAX_TRIES):
        one.outlet._next_try = 0
        one.flush(1)
    assert one.outlet.lost == {"unreachable": 1} and len(one) == 0


def test_what_is_left_at_the_end_is_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each backend; what comes after the end is counted too."""
    one = _queue(Exporter("code: 503"))
    one.put(1)
    one.put(2)
    one.shutdown(5)
    one.put(3)
    queue.account()
    assert "otlp: 3 spans not delivered (3 exit; code: 503)" in capsys.readouterr().err
    assert outlet.report()[0]["lost"] == {"exit": 3}


@pytest.mark.allow_swallowed
def test_what_can_not_be_prepared_does_not_leave() -> None:
    """Fail closed: a span on which the scrubber raises is lost and counted, the others arrive."""

    def prepare(item: int) -> int:
        if item == 2:
            raise RuntimeError("scrubber")
        return item

    exporter = Exporter()
    one = Queue(Outlet("otlp", "traces", exporter), prepare, size=10)
    for number in (1, 2, 3):
        one.put(number)
    assert one.flush(5) and exporter.batches == [[1, 3]] and one.outlet.lost == {"fault": 1}


def test_others_log_lines_pass() -> None:
    """What an exporter of the user's own logs is not taken away."""
    one = _queue(Exporter("code: 503"))
    logger = logging.getLogger("opentelemetry.exporter.otlp.fake")
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        one.put(1)
        one.flush(5)
        logger.error("the user's")
    finally:
        logger.removeHandler(handler)
    assert seen == ["the user's"]


# Copies


def _finished(attributes: dict[str, Any], **options: Any) -> ReadableSpan:
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "shop", "db_password": "s3"}))
    span: Any = provider.get_tracer("t").start_span("GET /users/bob@example.com", attributes=attributes, **options)
    span.record_exception(ValueError("password=hunter2"))
    span.set_status(Status(StatusCode.ERROR, "token=hunter2"))
    span.end()
    return span._readable_span()  # type: ignore[no-any-return]


def test_a_copy_is_scrubbed_in_every_place_and_the_original_is_not_changed() -> None:
    """Name, attributes, events, links, status and resource; ids, times, kind and dropped counts stay."""
    link = Link(_finished({}).context, {"authorization": "Basic abc"})
    span = _finished({"api_key": "hunter2", "sentry.sample_rate": 0.1, "plan": "pro"}, links=[link])
    before = span.to_json()
    copy = Copies(SETTINGS).of(span)
    text = copy.to_json()
    for secret in ("hunter2", "bob@example.com", "Basic abc", "s3", "sentry.sample_rate"):
        assert secret not in text and secret in before
    assert copy.attributes == {"api_key": "[Filtered]", "plan": "pro"}
    assert span.to_json() == before
    same = ("context", "parent", "kind", "start_time", "end_time", "instrumentation_scope")
    assert all(getattr(copy, name) == getattr(span, name) for name in same)
    assert Copies(SETTINGS, carriers=True).of(span).attributes["sentry.sample_rate"] == 0.1


def test_what_protobuf_refuses_does_not_cost_the_batch() -> None:
    """A lone surrogate and a number of more than 64 bits: the span arrives, with the value as near as can be."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    span = _finished({"a": "x\udc80é", "b": 2**70, "c": ["\ud800"], "d": -(2**63)})
    encoded = encode_spans([Copies(SETTINGS).of(span)])
    pairs = encoded.resource_spans[0].scope_spans[0].spans[0].attributes
    assert {pair.key for pair in pairs} == {"a", "b", "c", "d"}
    assert pairs[0].value.string_value == "x?é" and pairs[1].value.string_value == str(2**70)


def test_a_copy_says_what_the_limits_had_cut_off() -> None:
    """OTLP's dropped counts are the original's."""
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_attributes=2))
    span: Any = provider.get_tracer("t").start_span("x", attributes={"a": 1, "b": 2, "c": 3})
    span.end()
    assert Copies(SETTINGS).of(span._readable_span()).dropped_attributes == 1


_SECRETS = ["hunter2 password=hunter2", "4111 1111 1111 1111", "bob@example.com", "plain", "https://u:p@h/?token=x"]
_KEYS = ["db.query.text", "url.full", "user.email", "note", "api_key", "http.request.header.cookie", "card", "x.y"]


@given(
    st.dictionaries(
        st.sampled_from(_KEYS), st.sampled_from(_SECRETS) | st.text(max_size=30) | st.integers(-(2**63), 2**63 - 1)
    )
)
@hypothesis_settings(deadline=None)
def test_sentry_and_the_others_get_the_same_scrubbed_values(attributes: dict[str, Any]) -> None:
    """One span to both: whatever key both have, both have the same value of it, and only if it may leave."""
    span = _finished(attributes, kind=SpanKind.INTERNAL)
    segment = Segment(span.context.trace_id, span.context.span_id, None, Decision(True, 1.0, 0.1))
    segment.root, segment.spans = span, deque()
    event = prepared(segment, Common(release="r", environment="e", server_name="h"))
    assert event is not None
    data = event["contexts"]["trace"]["data"]
    copy = Copies(SETTINGS).of(span).attributes or {}
    for key in attributes.keys() & data.keys():
        assert copy.get(key) == data[key], key
    assert not {key for key in data.keys() & attributes.keys() if key not in copy}


# Presets


def test_resource_of_the_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datadog: `env` under both names. An instance id where the SDK makes none, and another one in a forked worker."""
    from otel_sentry.backends.resource import Resources, instance_id

    def made(preset: str, **attributes: str) -> Any:
        wanted = {"deployment.environment.name": "dev", **attributes}
        return Resources(dataclasses.replace(SETTINGS, preset=preset)).of(Resource(wanted)).attributes

    assert made("datadog")["deployment.environment"] == "dev"
    assert made("grafana")["service.instance.id"] == instance_id()
    assert made("grafana", **{"service.instance.id": "the SDK's"})["service.instance.id"] == "the SDK's"
    resources, resource = Resources(SETTINGS), Resource({"service.instance.id": "the SDK's"})
    before = resources.of(resource).attributes["service.instance.id"]
    child = _in_child(lambda: str(resources.of(resource).attributes["service.instance.id"]))
    assert before == "the SDK's" != child
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine")
    resources, resource = Resources(SETTINGS), Resource({"service.instance.id": "mine"})
    assert _in_child(lambda: str(resources.of(resource).attributes["service.instance.id"])) == "mine"


def test_one_instance_id_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queues of several backends ask at once in a new process: all get the same id."""
    from otel_sentry.backends import resource

    for _ in range(50):
        monkeypatch.setattr(resource, "_instances", {})
        barrier, found = threading.Barrier(4), []

        def ask(barrier: threading.Barrier = barrier, found: list[str] = found) -> None:
            barrier.wait()
            found.append(resource.instance_id())

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4 and len(set(found)) == 1


def _in_child(call: Callable[[], str]) -> str:
    """What *call* returns in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, call().encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as end:
        return end.read()


def test_a_forked_child_makes_its_exporter_anew() -> None:
    """The parent's holds connections, into which two processes would write."""
    former = Exporter()
    one = Outlet("otlp", "traces", former, Exporter)
    assert one.send(["parent"], 1) == outlet.DELIVERED
    told = _in_child(lambda: f"{one.send(['child'], 1)} {one.exporter is former} {one.exporter.batches}")
    assert told == "delivered False [['child']]"
    assert one.exporter is former and former.batches == [["parent"]]


_DATADOG = [
    (SpanKind.SERVER, {"http.request.method": "GET", "http.route": "posts/<int:pk>/"},
     ("http.server.request", "GET /posts/<int:pk>/", "web")),
    (SpanKind.SERVER, {"http.method": "GET"}, ("http.server.request", "name", "web")),
    (SpanKind.CLIENT, {"http.request.method": "GET", "server.address": "api.example"},
     ("http.client.request", "GET api.example", "http")),
    (SpanKind.CLIENT, {"db.system.name": "postgresql", "db.query.text": "SELECT 1"},
     ("postgresql.query", "SELECT 1", "sql")),
    (SpanKind.CLIENT, {"db.system": "redis", "db.statement": "GET ?"}, ("redis.query", "GET ?", "redis")),
    (SpanKind.CONSUMER, {"celery.task_name": "shop.add", "messaging.system": "redis"},
     ("celery.process", "shop.add", "worker")),
    (SpanKind.PRODUCER, {"messaging.system": "kafka", "messaging.destination.name": "orders"},
     ("kafka.publish", "orders", "custom")),
    (SpanKind.SERVER, {"rpc.system": "grpc", "rpc.method": "Get", "rpc.service": "Shop"},
     ("grpc.server.request", "Get Shop", "web")),
    (SpanKind.INTERNAL, {}, ("internal", "name", "custom")),
    (SpanKind.CLIENT, {}, ("client.request", "name", "http")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "attributes", "wanted"), _DATADOG)
def test_datadogs_names(kind: SpanKind, attributes: dict[str, Any], wanted: tuple[str, str, str]) -> None:
    """Operation, resource and type from legacy and stable conventions."""
    span = ReadableSpan("name", kind=kind)
    assert tuple(datadog.names(span, attributes).values()) == wanted


def test_the_users_own_name_wins() -> None:
    """What the program sets as `operation.name` stays."""
    copies = Copies(SETTINGS, naming=datadog.names)
    attributes = copies.of(_finished({"operation.name": "mine"})).attributes or {}
    assert attributes["operation.name"] == "mine" and attributes["span.type"] == "custom"


def test_ids_in_log_lines() -> None:
    """Datadog's decimal ids, of the trace id the lower 64 bits; nothing outside of a span."""
    assert datadog.log_ids((7 << 64) + 5, 9) == {"dd.trace_id": "5", "dd.span_id": "9"}
    assert datadog.log_ids(0, 0) == {}


def test_ddtrace_beside_us_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Active, not merely installed or imported: one line, when the first span leaves."""
    monkeypatch.setitem(sys.modules, "ddtrace", types.ModuleType("ddtrace"))
    Copies(SETTINGS, naming=datadog.names).of(_finished({}))
    assert "ddtrace" not in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ddtrace.auto", types.ModuleType("ddtrace.auto"))
    copies = Copies(SETTINGS, naming=datadog.names)
    copies.of(_finished({}))
    copies.of(_finished({}))
    assert capsys.readouterr().err.count("ddtrace traces this process too") == 1


# Datadog's headers


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_datadogs_headers_there_and_back(trace_id: int, span_id: int, sampled: bool) -> None:
    """128-bit ids and the flag survive; a trace id whose lower half is zero can't be told and is left alone."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    sent = SpanContext(trace_id, span_id, False, TraceFlags(int(sampled)))
    carrier: dict[str, str] = {}
    DatadogPropagator().inject(carrier, set_span_in_context(NonRecordingSpan(sent), Context()))
    found = get_current_span(DatadogPropagator().extract(carrier, Context())).get_span_context()
    if trace_id & (2**64 - 1):
        assert (found.trace_id, found.span_id, found.trace_flags.sampled) == (trace_id, span_id, sampled)
        assert found.is_remote
    else:
        assert not found.is_valid


@given(st.dictionaries(st.sampled_from([TRACE_ID, PARENT_ID, PRIORITY, TAGS]), st.text(max_size=40)))
def test_garbage_in_datadogs_headers(carrier: dict[str, str]) -> None:
    """Never raises, and whatever comes out is a valid context or none."""
    context = DatadogPropagator().extract(carrier, Context())
    found = get_current_span(context).get_span_context()
    assert not found.is_valid or found.is_remote


def test_a_traceparent_wins_over_datadogs_headers() -> None:
    """After `tracecontext` in the list of propagators, Datadog's headers count only where no traceparent came."""
    from opentelemetry.propagators.composite import CompositePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    both = CompositePropagator([TraceContextTextMapPropagator(), DatadogPropagator()])
    headers = {TRACE_ID: "5", PARENT_ID: "9", PRIORITY: "2", TAGS: "_dd.p.dm=-1,_dd.p.tid=0000000000000007"}
    alone = get_current_span(both.extract(headers, Context())).get_span_context()
    assert (alone.trace_id, alone.trace_flags.sampled) == ((7 << 64) + 5, True)
    headers["traceparent"] = f"00-{'a' * 32}-{'b' * 16}-00"
    assert get_current_span(both.extract(headers, Context())).get_span_context().trace_id == int("a" * 32, 16)


# Settings


@pytest.mark.parametrize(
    "text", ["https://x/{trace_id", "https://x/{other}", "nothing", "javascript:{trace_id}", "{0}"]
)
def test_a_trace_url_that_is_none(text: str) -> None:
    """One line says what was expected; there are no links then."""
    loaded = table.load({"OTEL_SENTRY_TRACE_URL": text})
    assert loaded.trace_url is None and any("OTEL_SENTRY_TRACE_URL" in line for line in loaded.problems)


def test_rates_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A named exporter's own rate, else OTLP's; other exporters get all; nonsense is named in one line."""
    from otel_sentry.backends import rate_of

    loaded = table.load({}, otlp_sample_rate=0.5)
    monkeypatch.setenv("OTEL_SENTRY_OTLP_TEMPO_SAMPLE_RATE", "0.2")
    monkeypatch.setenv("OTEL_SENTRY_OTLP_BAD_SAMPLE_RATE", "2")
    names = ("otlp", "otlp/tempo", "otlp/other", "otlp/bad", "console")
    assert [rate_of(name, loaded) for name in names] == [0.5, 0.2, 0.5, 0.5, 1.0]
    assert "OTEL_SENTRY_OTLP_BAD_SAMPLE_RATE" in capsys.readouterr().err
