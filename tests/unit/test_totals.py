"""Calls counted for each local root, slow ones, and one query again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, set_span_in_context, use_span

from otel_sentry import settings
from otel_sentry.business import performance
from otel_sentry.sentry import crumbs
from otel_sentry.trace import repeats, slow, totals
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.provider import SentryTracerProvider
from otel_sentry.trace.segment import Segment, segment_of, table

MS = 1_000_000
CONTRIB = "opentelemetry.instrumentation."
SQL = "SELECT id, title FROM post WHERE id = %s"


class Rig:
    """A provider with our pipeline and another exporter behind it; times are the test's own, in ms."""

    def __init__(self, provider: TracerProvider) -> None:
        self.noticed: list[tuple[str, str]] = []
        self.roots: list[ReadableSpan] = []
        pipeline = SpanPipeline(
            on_slow=lambda segment, span, what: self.noticed.append((what, span.name)),
            on_finish=lambda segment, root: self.roots.append(root),
        )
        self.exporter = InMemorySpanExporter()
        provider.add_span_processor(pipeline)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.provider = provider

    def begin(self, kind: SpanKind = SpanKind.SERVER, name: str = "GET posts/", **attributes: Any) -> Any:
        self.root = self.provider.get_tracer("web").start_span(name, kind=kind, start_time=0, attributes=attributes)
        return self.root

    def call(
        self, scope: str, start: float, ms: float, kind: SpanKind = SpanKind.CLIENT, name: str = "call",
        parent: Any = None, **attributes: Any,
    ) -> Any:  # fmt: skip
        context = set_span_in_context(parent or self.root)
        attributes = {key.replace("__", "."): value for key, value in attributes.items()}
        tracer = self.provider.get_tracer(scope)
        span = tracer.start_span(name, context, kind, attributes, start_time=int(start * MS))
        span.end(int((start + ms) * MS))
        return span

    def query(self, start: float, ms: float = 1, text: str = SQL, parent: Any = None) -> None:
        self.call(CONTRIB + "psycopg", start, ms, name="SELECT", parent=parent, db__system="pg", db__statement=text)

    def end(self, ms: float = 100) -> dict[str, Any]:
        self.root.end(int(ms * MS))
        return dict(self.roots[-1].attributes or {})

    @property
    def segment(self) -> Segment:
        found = segment_of(self.root.get_span_context())
        assert found is not None
        return found


@pytest.fixture(autouse=True)
def _limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    table.clear()
    monkeypatch.setattr(totals, "limits", slow.Limits())
    yield
    table.clear()


@pytest.fixture(params=["ours", "stock"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Our provider, and a stock one."""
    made = SentryTracerProvider if request.param == "ours" else TracerProvider
    return Rig(made(shutdown_on_exit=False))


def test_calls_are_on_the_root(rig: Rig) -> None:
    """Database, cache, outgoing requests and published tasks are counted and timed, of an unsampled segment too."""
    rig.begin()
    assert not rig.segment.sampled
    rig.query(0, 2)
    rig.query(5, 3, text="SELECT 1")
    rig.call(CONTRIB + "redis", 10, 1, db__system="redis")
    rig.call(CONTRIB + "httpx", 20, 40, http__method="GET")
    rig.call(CONTRIB + "celery", 70, 5, SpanKind.PRODUCER)
    rig.call("mine", 80, 1, SpanKind.INTERNAL)
    found = rig.end(100)
    assert {key: value for key, value in found.items() if key.startswith("performance.")} == {
        "performance.response_time_ms": 100.0,
        "performance.database_calls": 2, "performance.database_time_ms": 5.0,
        "performance.cache_calls": 1, "performance.cache_time_ms": 1.0,
        "performance.external_calls": 1, "performance.external_time_ms": 40.0,
        "performance.publish_calls": 1, "performance.publish_time_ms": 5.0,
    }  # fmt: skip
    assert rig.noticed == []


def test_other_backends_see_them() -> None:
    """On our provider every exporter gets the root's totals and the mark of a slow query; a stock one has no place."""
    rig = Rig(SentryTracerProvider(shutdown_on_exit=False))
    rig.begin()
    rig.query(0, 600)
    rig.end(2500)
    query, root = rig.exporter.get_finished_spans()
    assert (query.attributes or {})["slow_operation"] is True
    assert (root.attributes or {})["performance.database_calls"] == 1
    assert (root.attributes or {})["slow_operation"] is True


@pytest.mark.parametrize(
    ("scope", "kind", "attributes", "expected"),
    [
        ("mine", SpanKind.CLIENT, {"db__system__name": "mysql"}, totals.DATABASE),
        ("mine", SpanKind.CLIENT, {"db__system": "memcached"}, totals.CACHE),
        ("mine", SpanKind.CLIENT, {"http__request__method": "GET"}, totals.EXTERNAL),
        ("mine", SpanKind.CLIENT, {"rpc__system": "grpc"}, None),
        ("mine", SpanKind.SERVER, {"http__method": "GET"}, None),
        ("otel_sentry_django", SpanKind.INTERNAL, {}, None),
    ],
)
def test_spans_of_other_scopes_are_told_by_their_attributes(
    rig: Rig, scope: str, kind: SpanKind, attributes: dict[str, Any], expected: int | None
) -> None:
    """A client span that no known library made is what its attributes say."""
    rig.begin()
    span = rig.call(scope, 0, 1, kind, **attributes)
    assert totals.kind_of(span) == expected


def test_what_a_call_is_made_of_counts_no_more(rig: Rig) -> None:
    """The Redis commands of a cache look-up, or of publishing, the driver's span below SQLAlchemy's: one call."""
    tracer = rig.provider.get_tracer("otel_sentry_django")
    rig.begin()
    cache = tracer.start_span("cache.get", set_span_in_context(rig.root), start_time=0)
    for start in (1, 2):
        rig.call(CONTRIB + "redis", start, 1, parent=cache)
    cache.end(5 * MS)
    publish = rig.provider.get_tracer("x").start_span(
        "send", set_span_in_context(rig.root), SpanKind.PRODUCER, start_time=10 * MS
    )
    rig.call(CONTRIB + "redis", 11, 1, parent=publish)
    publish.end(20 * MS)
    orm = rig.provider.get_tracer(CONTRIB + "sqlalchemy").start_span(
        "SELECT", set_span_in_context(rig.root), SpanKind.CLIENT, start_time=30 * MS
    )
    rig.query(31, 3, parent=orm)
    orm.end(40 * MS)
    assert rig.segment.totals.fields() == {
        "database_calls": 1, "database_time_ms": 10.0, "cache_calls": 1, "cache_time_ms": 5.0,
        "publish_calls": 1, "publish_time_ms": 10.0,
    }  # fmt: skip


def test_an_error_says_the_same(rig: Rig) -> None:
    """``contexts.performance``: ms so far, slow or not yet, calls so far."""
    rig.begin()
    rig.query(0, 2)
    found = crumbs.performance(rig.segment)
    assert found["slow_operation"] is False and 0 <= found["response_time_ms"] < 2000
    assert (found["database_calls"], found["database_time_ms"]) == (1, 2.0)
    rig.segment.started -= 3
    assert crumbs.performance(rig.segment)["slow_operation"] is True


@pytest.mark.parametrize(
    ("kind", "ms", "is_slow"),
    [
        (SpanKind.SERVER, 1999, False), (SpanKind.SERVER, 2000, True), (SpanKind.CONSUMER, 29_999, False),
        (SpanKind.CONSUMER, 30_000, True), (SpanKind.INTERNAL, 10**7, False),
    ],
)  # fmt: skip
def test_slow_roots(rig: Rig, kind: SpanKind, ms: int, is_slow: bool) -> None:
    """A request is slow from 2 s on, a task from 30 s on, a command never: told on the span and to the hook."""
    rig.begin(kind)
    assert rig.end(ms).get("slow_operation", False) is is_slow
    assert rig.noticed == [("root", "GET posts/")] * is_slow


@pytest.mark.parametrize(
    ("mapping", "attributes", "kind"),
    [
        ("/posts/*=100", {"http.route": "posts/<int:pk>/"}, SpanKind.SERVER),
        ("GET posts/=100", {}, SpanKind.SERVER),
        ("posts.tasks.*=100,*=1e6", {"celery.task_name": "posts.tasks.render"}, SpanKind.CONSUMER),
        ("check*=100", {"business.operation": "checkout"}, SpanKind.SERVER),
        ("GET*=100", {}, SpanKind.INTERNAL),
    ],
)
def test_thresholds_by_name(rig: Rig, mapping: str, attributes: dict[str, Any], kind: SpanKind) -> None:
    """`OTEL_SENTRY_SLOW_MS` gives routes, tasks and operations a threshold of their own, also a command's root."""
    totals.use(settings.load({"OTEL_SENTRY_SLOW_MS": mapping}))
    rig.begin(kind, **attributes)
    assert rig.end(100)["slow_operation"] is True


def test_a_threshold_can_be_raised(rig: Rig) -> None:
    """The first pattern that fits wins, over the default too."""
    totals.use(settings.load({}, slow_ms={"/reports/*": 60_000, "*": 1}))
    rig.begin(SpanKind.SERVER, **{"http.route": "/reports/<year>/"})
    assert "slow_operation" not in rig.end(50_000)


@pytest.mark.parametrize("text", ["posts", "=3", "a=b", "a=-1", "a=nan"])
def test_a_mapping_that_is_none_is_said(text: str) -> None:
    """One line names the setting and the part; the default is used."""
    loaded = settings.load({"OTEL_SENTRY_SLOW_MS": text})
    assert loaded.slow_ms == () and any("OTEL_SENTRY_SLOW_MS" in line for line in loaded.problems)


def test_slow_calls(rig: Rig) -> None:
    """A query from 500 ms on and an outgoing request from 3 s on are marked; the hook hears of each."""
    rig.begin()
    rig.query(0, 499)
    rig.query(500, 500, text="SELECT 2")
    rig.call(CONTRIB + "requests", 1000, 2999, name="GET", http__method="GET")
    rig.call(CONTRIB + "requests", 1000, 3000, name="POST", http__method="POST")
    assert rig.noticed == [("query", "SELECT"), ("external", "POST")]
    marks = [(span.attributes or {}).get("slow_operation") for span in rig.segment.spans]
    assert marks == [None, True, None, True]


def test_the_three_slowest_children(rig: Rig) -> None:
    """They are remembered of the root, whatever ended since."""
    rig.begin()
    for ms in (5, 40, 10, 30, 20, *[1] * 200):
        rig.call("mine", 0, ms, SpanKind.INTERNAL, name=f"work {ms}")
    assert [span.name for _, span in rig.segment.totals.slowest] == ["work 40", "work 30", "work 20"]


def test_what_the_root_has_is_not_pushed_out() -> None:
    """With few attributes allowed the root keeps its own, and the transaction has the totals all the same."""
    rig = Rig(SentryTracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_span_attributes=4)))
    rig.begin(route="posts/", method="GET")
    rig.query(0)
    found = rig.end()
    assert (found["route"], found["method"], found["performance.database_calls"]) == ("posts/", "GET", 1)
    assert dict(rig.exporter.get_finished_spans()[-1].attributes or {}) == {"route": "posts/", "method": "GET"}


def test_a_slow_call_is_told_where_it_belongs() -> None:
    """A slow query that ends while another request is at work leaves its breadcrumb in its own request."""
    provider = SentryTracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanPipeline(on_slow=performance.on_slow))
    mine, other = (provider.get_tracer("web").start_span(name, kind=SpanKind.SERVER) for name in ("mine", "other"))
    tracer = provider.get_tracer(CONTRIB + "psycopg")
    query = tracer.start_span("SELECT", set_span_in_context(mine), SpanKind.CLIENT, {"db.statement": SQL}, start_time=0)
    with use_span(other):
        query.end()
    trails = [segment.crumbs for one in (mine, other) if (segment := segment_of(one.get_span_context()))]
    assert [len(trail or ()) for trail in trails] == [1, 0]


def test_one_query_again_and_again(rig: Rig) -> None:
    """Ten times below one parent, one after the other, 50 ms in all: told once, and on the root."""
    rig.begin()
    for number in range(12):
        rig.query(10 * number, 5)
        rig.query(10 * number + 6, 1, text="SELECT now()")
    assert rig.noticed == [("repeated", "SELECT")]
    found = rig.end(500)
    assert (found["performance.n_plus_one"], found["performance.n_plus_one_query"]) == (12, SQL)
    assert rig.noticed[1:] == [("root", "GET posts/")]


def test_the_same_with_values_in_the_text(rig: Rig) -> None:
    """Queries that differ in their literals only are one; what is sent has none of them."""
    rig.begin()
    for number in range(12):
        rig.query(10 * number, 5, text=f"SELECT id FROM post WHERE owner = 'bob{number}@example.com'")
    found = rig.end(500)
    assert found["performance.n_plus_one"] == 12
    assert found["performance.n_plus_one_query"] == "SELECT id FROM post WHERE owner = ?"


@pytest.mark.parametrize("why", ["too few", "too fast", "side by side", "different parents", "off"])
def test_no_n_plus_one(rig: Rig, why: str) -> None:
    """Each condition of the rule matters."""
    if why == "off":
        totals.use(settings.load({}, n_plus_one=0))
    rig.begin()
    for number in range(9 if why == "too few" else 30):
        parent = None
        if why == "different parents":
            parent = rig.provider.get_tracer("x").start_span("item", set_span_in_context(rig.root), start_time=0)
        start = 0 if why == "side by side" else 100 * number
        rig.query(start, 1 if why == "too fast" else 10, parent=parent)
    assert "performance.n_plus_one" not in rig.end(5000)
    assert ("repeated", "SELECT") not in rig.noticed


def test_memory_is_bounded() -> None:
    """However many texts a segment runs, at most a hundred are told apart, and a long one is not kept at all."""
    found = repeats.Repeats()
    for number in range(10_000):
        found.add(1, f"SELECT c{number} FROM t{number}", number, 1, 10, 50)
        assert len(found._seen) <= 100
    assert not found.add(1, "SELECT " + "x" * 5000, 0, 1, 1, 0)
    found = repeats.Repeats()
    for number in range(10_000):  # one shape: it is found all the same
        found.add(1, f"SELECT name FROM account WHERE id = {number}", number * 10, 10, 10, 50)
    assert found.worst(10, 50) == ("SELECT name FROM account WHERE id = ?", 10_000)
