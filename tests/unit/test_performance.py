"""`monitor_performance`, `span`, `tag_business_operation` as decorators and blocks, and what is said of slow ones."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, set_span_in_context

import otel_sentry
from otel_sentry import ambient, monitor_performance, runtime, span, tag_business_operation
from otel_sentry.ambient.trail import Crumb
from otel_sentry.business import metrics, performance
from otel_sentry.trace import slow, totals
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.provider import SentryTracerProvider
from otel_sentry.trace.segment import current_segment, table
from tests.support import docs
from tests.support.client import sentry_sdk_set_up

MS = 1_000_000
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Rig:
    """Our provider as the global one, and what the metrics were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = SentryTracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SpanPipeline(on_slow=performance.on_slow))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.measured: list[tuple[str, Any]] = []
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: self.provider)
        monkeypatch.setattr(metrics, "count", lambda name, value=1, **labels: self.measured.append((name, labels)))
        monkeypatch.setattr(
            metrics, "distribution", lambda name, value, unit=None, **labels: self.measured.append((name, labels))
        )

    @property
    def spans(self) -> dict[str, Any]:
        return {one.name: one for one in self.exporter.get_finished_spans()}


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    table.clear()
    monkeypatch.setattr(totals, "limits", slow.Limits())
    yield Rig(monkeypatch)
    table.clear()


def _inside() -> tuple[str, str | None]:
    """The current span's name and the operation in force."""
    business = ambient.current().business
    return getattr(trace.get_current_span(), "name", ""), business.operation if business else None


BLOCKS: dict[str, Decorator] = {
    "span": span("work", size=3),
    "monitor": monitor_performance("work", threshold_ms=1e9),
    "tag": tag_business_operation("work", module="m"),
}
WHERE = {"span": ("work", None), "monitor": ("work", None), "tag": ("", "work")}


@pytest.mark.parametrize("kind", BLOCKS)
def test_functions(rig: Rig, kind: str) -> None:
    """Name, signature, result and exception stay those of the function; the block is in force inside only."""

    def work(a: int, *, b: str = "x") -> Any:
        """Doc."""
        if b == "fail":
            raise KeyError(a)
        return a, b, _inside()

    wrapped = BLOCKS[kind](work)
    assert wrapped(1, b="y") == (1, "y", WHERE[kind])
    assert (wrapped.__name__, wrapped.__doc__) == ("work", "Doc.")
    assert inspect.signature(wrapped) == inspect.signature(work)
    with pytest.raises(KeyError):
        wrapped(1, b="fail")
    assert _inside() == ("", None)


@pytest.mark.parametrize("kind", BLOCKS)
def test_an_exception_without_text(rig: Rig, kind: str) -> None:
    """One that can't be shown passes as it is, and the span ends all the same, as failed."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(Mute), BLOCKS[kind]:
        raise Mute
    assert len(table) == 0
    for one in rig.exporter.get_finished_spans():
        assert (one.status.status_code, one.status.description) == (trace.StatusCode.ERROR, "Mute")


@pytest.mark.parametrize("kind", BLOCKS)
def test_coroutines(rig: Rig, kind: str) -> None:
    """It lasts until the coroutine is done, and stays a coroutine function; two at once do not mix."""

    @BLOCKS[kind]
    async def work(a: int) -> Any:
        await asyncio.sleep(0)
        return a, _inside()

    async def both() -> Any:
        return await asyncio.gather(work(1), work(2))

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(both()) == [(1, WHERE[kind]), (2, WHERE[kind])]

    async def block() -> Any:
        block: Any = span("work") if kind == "span" else monitor_performance("work") if kind == "monitor" else None
        async with block or tag_business_operation("work"):
            return _inside()

    assert asyncio.run(block()) == WHERE[kind]


@pytest.mark.parametrize("kind", BLOCKS)
def test_generators(rig: Rig, kind: str) -> None:
    """The body is inside from its first step to its last, the consumer's code in between is not; send, throw, close."""

    @BLOCKS[kind]
    def work() -> Any:
        got = yield _inside()
        try:
            yield got
        except LookupError:
            yield "caught"
        return _inside()

    assert inspect.isgeneratorfunction(work)
    steps: Any = work()
    assert next(steps) == WHERE[kind]
    assert _inside() == ("", None)
    assert steps.send(5) == 5
    assert steps.throw(LookupError()) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == WHERE[kind]
    if kind != "tag":
        assert len(rig.spans) == 1

    half: Any = work()
    next(half)
    half.close()
    never: Any = work()
    never.close()
    if kind != "tag":
        assert len(rig.exporter.get_finished_spans()) == 2


@pytest.mark.parametrize("kind", BLOCKS)
def test_async_generators(rig: Rig, kind: str) -> None:
    """As generators; one that is given up half-way ends its span all the same."""

    @BLOCKS[kind]
    async def work() -> AsyncIterator[Any]:
        try:
            yield _inside()
            await asyncio.sleep(0)
            yield _inside()
        except LookupError:
            yield "caught"

    async def main() -> None:
        found = []
        async for step in work():
            assert _inside() == ("", None)
            found.append(step)
        assert found == [WHERE[kind]] * 2
        steps: Any = work()
        await steps.__anext__()
        assert await steps.athrow(LookupError()) == "caught"
        await steps.aclose()
        abandoned: Any = work()
        await abandoned.__anext__()
        del abandoned
        gc.collect()

    asyncio.run(main())
    assert len(rig.exporter.get_finished_spans()) == (0 if kind == "tag" else 3)


def test_bare_decorators(rig: Rig) -> None:
    """Without parentheses the function names the span, with its class."""

    class Post:
        @span
        def resize(self) -> str:
            return _inside()[0]

        @monitor_performance
        def render(self) -> str:
            return _inside()[0]

        @monitor_performance(threshold_ms=5)
        def store(self) -> str:
            return _inside()[0]

    post = Post()
    assert (post.resize(), post.render(), post.store()) == ("Post.resize", "Post.render", "Post.store")


def test_exceptions_are_on_the_span(rig: Rig) -> None:
    """What leaves a block is recorded on its span, once, and is no issue of its own; an orderly end is no failure."""
    with pytest.raises(ValueError), span("failed"):
        raise ValueError("no")
    with pytest.raises(SystemExit), span("left"):
        raise SystemExit
    failed, left = rig.spans["failed"], rig.spans["left"]
    assert failed.status.status_code.name == "ERROR" and failed.status.description == "ValueError: no"
    assert [event.name for event in failed.events] == ["exception"]
    assert left.status.status_code.name == "UNSET" and not left.events


def test_slow_block(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Past the threshold: attribute and event on the span, a WARNING with the three slowest children, a breadcrumb, a
    metric."""
    caplog.set_level(logging.WARNING, "otel_sentry.business")
    with trace.get_tracer("web").start_as_current_span("GET /"):
        with monitor_performance("import", threshold_ms=0) as one:
            for ms in (10, 40, 20, 30):
                child = trace.get_tracer("x").start_span(f"step {ms}", start_time=0)
                child.end(ms * MS)
        segment = current_segment()
        assert segment is not None and segment.crumbs is not None
        (crumb,) = map(Crumb._make, segment.crumbs)
    assert one.attributes["slow_operation"] is True  # type: ignore[attr-defined]
    (event,) = one.events  # type: ignore[attr-defined]
    assert event.name == "slow_operation" and event.attributes["threshold_ms"] == 0
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.name == "otel_sentry.business"
    assert "slow operation import" in record.getMessage()
    assert record.getMessage().endswith("slowest: step 40 40 ms, step 30 30 ms, step 20 20 ms")
    assert (record.operation, record.slow_operation) == ("import", True)  # type: ignore[attr-defined]
    assert (crumb.category, crumb.level, crumb.message) == ("performance", "warning", "slow operation: import")
    assert rig.measured == [("operation.slow", {"operation": "import"})]


def test_fast_block_is_silent(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Below the threshold there is a span, and nothing else."""
    with monitor_performance("import"):
        pass
    assert not caplog.records and not rig.measured
    assert not rig.spans["import"].attributes and not rig.spans["import"].events


def test_the_mapping_knows_blocks(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """`OTEL_SENTRY_SLOW_MS` gives a monitored block another threshold; where it is the root too, it is told of once."""
    totals.use(otel_sentry.settings.load({"OTEL_SENTRY_SLOW_MS": "import=0"}))
    with monitor_performance("import"):
        pass
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_slow_request(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A WARNING in the request's trace, with the three slowest children; the metric only past the second threshold."""
    formats = []

    class Ids(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            otel_sentry.TraceContextFilter().filter(record)
            formats.append((record.getMessage(), record.trace_id))  # type: ignore[attr-defined]

    handler = Ids()
    performance.LOGGER.addHandler(handler)
    try:
        for ms in (2500, 6000):
            root = trace.get_tracer("web").start_span("GET posts/", kind=SpanKind.SERVER, start_time=0)
            child = trace.get_tracer("x").start_span("upload", set_span_in_context(root), start_time=0)
            child.end(2000 * MS)
            root.end(ms * MS)
    finally:
        performance.LOGGER.removeHandler(handler)
    (message, trace_id), _ = formats
    assert message == "slow request GET posts/: 2500 ms (from 2000 ms on); slowest: upload 2000 ms"
    assert trace_id != "0" * 32 and len(trace_id) == 32
    assert rig.measured == [("request.slow", {"route": "GET posts/"})]


def test_slow_calls_and_repeated_queries(rig: Rig) -> None:
    """Each leaves a breadcrumb and a metric; no value of a query is in either."""
    with trace.get_tracer("web").start_as_current_span("GET posts/", kind=SpanKind.SERVER):
        for number in range(12):
            query = trace.get_tracer("opentelemetry.instrumentation.psycopg").start_span(
                "SELECT", kind=SpanKind.CLIENT, start_time=number * 1000 * MS,
                attributes={"db.system": "postgresql", "db.statement": "SELECT id FROM t WHERE k = 'bob@example.com'"},
            )  # fmt: skip
            query.end((number * 1000 + (500 if number == 11 else 20)) * MS)
        call = trace.get_tracer("opentelemetry.instrumentation.requests").start_span(
            "GET", kind=SpanKind.CLIENT, start_time=0, attributes={"http.method": "GET", "server.address": "api"}
        )
        call.end(4000 * MS)
        segment = current_segment()
        assert segment is not None and segment.crumbs is not None
        found = [Crumb._make(crumb).message for crumb in segment.crumbs]
    assert found == [
        "one query again and again: SELECT id FROM t WHERE k = ?",
        "slow query: SELECT id FROM t WHERE k = ?",
        "slow external: GET",
    ]
    assert rig.measured == [
        ("query.slow", {"system": "postgresql", "operation": "SELECT"}),
        ("external.slow", {"host": "api", "method": "GET"}),
        ("query.n_plus_one", {"root": "GET posts/"}),
    ]


def test_operations_count_themselves(rig: Rig) -> None:
    """One measurement for each, with operation, module and outcome, whatever becomes of the trace."""
    with tag_business_operation("checkout", module="shop"):
        pass
    with pytest.raises(ValueError), tag_business_operation("checkout", module="shop"):
        raise ValueError
    name = "business.operation.duration"
    assert rig.measured == [
        (name, {"operation": "checkout", "module": "shop", "outcome": "ok"}),
        (name, {"operation": "checkout", "module": "shop", "outcome": "error"}),
    ]


def test_the_module_of_an_operation(rig: Rig) -> None:
    """The running view's app, else the running task's package, else that of the function or of the block's code."""

    @tag_business_operation("op")
    def work() -> None:
        pass

    def modules() -> list[str]:
        rig.measured.clear()
        work()
        with tag_business_operation("op"):
            pass
        return [labels["module"] for _, labels in rig.measured]

    assert modules() == ["tests", "tests"]
    with trace.get_tracer("celery").start_as_current_span(
        "run", kind=SpanKind.CONSUMER, attributes={"celery.task_name": "posts.tasks.render"}
    ):
        assert modules() == ["posts", "posts"]
    with trace.get_tracer("web").start_as_current_span("GET", kind=SpanKind.SERVER):
        segment = current_segment()
        assert segment is not None
        segment.module = lambda: "accounts"
        assert modules() == ["accounts", "accounts"]


def test_slow_as_issue(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `OTEL_SENTRY_SLOW_AS_ISSUE` a slow block and a slow request are issues, in their trace; without it none."""
    with sentry_sdk_set_up(slow_as_issue=True, metrics="off") as sentry:
        sentry.runtime.pipeline._on_slow = performance.on_slow
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: sentry.provider)
        totals.use(sentry.runtime.settings)
        with monitor_performance("import", threshold_ms=0) as one:
            pass
        root = sentry.tracer.start_span("GET posts/", kind=SpanKind.SERVER, start_time=0)
        root.end(2500 * MS)
        first, second = sentry.events
    assert first["message"] == "Slow operation: import"
    assert (first["level"], first["fingerprint"]) == ("warning", ["slow_operation", "operation", "import"])
    assert first["contexts"]["trace"]["trace_id"] == f"{one.get_span_context().trace_id:032x}"
    assert second["fingerprint"] == ["slow_operation", "request", "GET posts/"]
    assert second["contexts"]["trace"]["trace_id"] == f"{root.get_span_context().trace_id:032x}"
    assert second["contexts"]["slow_operation"]["duration_ms"] == 2500


def test_n_plus_one_alert(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> None:
    """With `OTEL_SENTRY_N_PLUS_ONE_ALERT` an alert of severity warning is raised, with the query and its number."""
    from otel_sentry.business.alerts import alert_manager

    raised: list[Any] = []
    monkeypatch.setattr(type(alert_manager), "trigger_business_alert", lambda self, *args: raised.append(args))
    with sentry_sdk_set_up(n_plus_one_alert=True):
        totals.use(runtime.get().settings)  # type: ignore[union-attr]
        root = trace.get_tracer("web").start_span("GET posts/", kind=SpanKind.SERVER, start_time=0)
        for number in range(10):
            query = trace.get_tracer("opentelemetry.instrumentation.psycopg").start_span(
                "SELECT", set_span_in_context(root), SpanKind.CLIENT, start_time=number * 10 * MS,
                attributes={"db.statement": "SELECT 1 FROM t WHERE id = %s"},
            )  # fmt: skip
            query.end((number * 10 + 9) * MS)
        root.end(100 * MS)
    context = {"query": "SELECT ? FROM t WHERE id = %s", "times": 10}
    assert raised == [("n_plus_one", "warning", "GET posts/ runs one query again and again", context)]


def test_the_sample_of_the_page(rig: Rig) -> None:
    """It runs as written, and makes the spans that it says."""
    names: dict[str, Any] = {}
    exec(docs.sample("docs/slow-operations.md", "import_posts"), names)
    names["import_posts"]()
    asyncio.run(names["fetch_posts"]())
    assert list(rig.spans) == ["resize", "render", "import_posts", "fetch_posts"]


def test_the_app_of_a_view() -> None:
    """Django's view, a class-based one too, belongs to the app that its module is in; before routing there is none."""
    program = """
import django
from django import conf
conf.settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"])
django.setup()
from django.contrib.auth.views import LoginView
from django.http import HttpRequest
from django.urls import ResolverMatch
from otel_sentry_django.views import module_of
request = HttpRequest()
found = [module_of(request)]
for view in (LoginView.as_view(), django.setup):
    request.resolver_match = ResolverMatch(view, (), {})
    found.append(module_of(request))
print(found)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[None, 'auth', None]"


@pytest.mark.once
def test_types(tmp_path: pathlib.Path) -> None:
    """For mypy a decorated function keeps its parameters and result, and ``with span(...)`` gives a span."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            from otel_sentry import monitor_performance, span, tag_business_operation

            @span
            def bare(a: int) -> str: ...
            @span("x", size=1)
            def named(a: int) -> str: ...
            @monitor_performance
            async def bare_async(a: int, *, b: bool) -> str: ...
            @monitor_performance("x", threshold_ms=5)
            def monitored(a: int) -> str: ...
            @tag_business_operation("x")
            def tagged(a: int) -> str: ...
            reveal_type(bare)
            reveal_type(named)
            reveal_type(bare_async)
            reveal_type(monitored)
            reveal_type(tagged)
            with span("x") as one, monitor_performance("x") as two:
                reveal_type(one)
                reveal_type(two)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--disable-error-code", "empty-body", "--cache-dir",
         str(tmp_path / "cache"), str(program)],
        capture_output=True, text=True, check=False, cwd=pathlib.Path(otel_sentry.__file__).parents[1],
    )  # fmt: skip
    found = [line.partition("Revealed type is ")[2].strip('"') for line in done.stdout.splitlines()]
    plain = [text.replace("builtins.", "") for text in found if text]
    assert plain[0] == plain[1] == plain[3] == plain[4] == "def (a: int) -> str", done.stdout
    assert plain[2].startswith("def (a: int, *, b: bool) -> ") and "Coroutine[Any, Any, str]" in plain[2]
    assert plain[5:] == ["opentelemetry.trace.span.Span"] * 2
