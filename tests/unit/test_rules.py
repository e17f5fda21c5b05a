"""Keep rules and ignore rules: what they take, what they say of nonsense, what they do to a segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from otel_sentry import counters, guard, settings
from otel_sentry.trace import rules
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.rules import Keep
from otel_sentry.trace.sampler import SentrySampler
from otel_sentry.trace.segment import Segment, current_segment, table
from tests.unit.test_pipeline import Outbox, Rig

SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def _empty_table() -> None:
    table.clear()


# Text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("error", Keep(True, None)),
        ("error,slow>2s", Keep(True, 2 * SECOND)),
        ("slow>1500ms", Keep(False, 1_500_000_000)),
        (" Slow > 0.5s , ERROR ", Keep(True, SECOND // 2)),
        ("slow>2m", Keep(False, 120 * SECOND)),
        ("off", None),
        ("0", None),
    ],
)
def test_keep_is_read(text: str, wanted: Keep | None) -> None:
    """OTEL_SENTRY_KEEP: error, slow>duration, in any order; off unless set."""
    assert rules.keep(text) == wanted


@pytest.mark.parametrize("text", ["slow", "slow>2", "slow>2 days", "errors", "slow<2s", "error;slow>2s"])
def test_keep_says_what_it_expected(text: str) -> None:
    """One line, with what was expected and what was found; the default is used."""
    loaded = settings.load({"OTEL_SENTRY_KEEP": text, "ENVIRONMENT": "production"})
    (problem,) = [line for line in loaded.problems if "OTEL_SENTRY_KEEP" in line]
    assert "expected `error`, `slow>2s`" in problem and "\n" not in problem and loaded.keep is None


def test_keep_is_off_unless_set() -> None:
    """Nobody pays for buffering what sampling left out without having asked for it; the table shows the text."""
    assert settings.load({"ENVIRONMENT": "production"}).keep is None
    assert str(settings.load({"OTEL_SENTRY_KEEP": "error,slow>1500ms"}).keep) == "error,slow>1.5s"


@pytest.mark.parametrize("text", ["connect", "name=", "attr.=x", "kind=client", "name=a&", "=x"])
def test_span_rule_says_what_it_expected(text: str) -> None:
    """A rule that is none is named in the one line."""
    loaded = settings.load({"OTEL_SENTRY_IGNORE_SPANS": text, "ENVIRONMENT": "production"})
    (problem,) = [line for line in loaded.problems if "OTEL_SENTRY_IGNORE_SPANS" in line]
    assert "expected rules such as name=connect" in problem and "\n" not in problem and loaded.ignore_spans == ()


def test_a_wrong_rule_among_good_ones_from_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A list given to `configure` is used as far as it can be; the rest is said once."""
    assert len(rules.compiled(["name=a", "nonsense"])) == 1
    assert "'nonsense' is none" in capsys.readouterr().err
    guard.reset()


# Health checks and static files


@pytest.mark.parametrize(
    ("path", "noise"),
    [
        ("/health", True), ("/health/", True), ("/healthz", True), ("/api/healthz", True), ("/livez", True),
        ("/readyz", True), ("/ping", True), ("/api/ping/", True), ("/health/live", True), ("/_health/", True),
        ("/health-check", True), ("/healthcheck/", True), ("/up", True), ("/ready", True),
        ("/static/site.css", True), ("/favicon.ico", True), ("/robots.txt", True), ("/apple-touch-icon.png", True),
        ("/", False), ("/healthy-recipes", False), ("/posts/ready", False), ("/sign/up", False), ("/a/live", False),
        ("/mental-health/", False), ("/status", False), ("/shipping", False), ("/statics", False),
        ("/robots.txt.bak", False), ("", False),
    ],
)  # fmt: skip
def test_noise_by_path(path: str, noise: bool) -> None:
    """Health checks and static files; words that pages are called by only as the whole path; /status never."""
    assert rules.is_noise(path, None) is noise


@pytest.mark.parametrize(
    ("agent", "noise"),
    [
        ("kube-probe/1.30", True),
        ("ELB-HealthChecker/2.0", True),
        ("GoogleHC/1.0", True),
        ("Mozilla/5.0", False),
        (None, False),
    ],
)
def test_noise_by_caller(agent: str | None, noise: bool) -> None:
    """Orchestrators and load balancers, wherever they look."""
    assert rules.is_noise("/anything", agent) is noise


SERVER = {"http.request.method": "GET", "url.path": "/healthz"}


@pytest.mark.parametrize("attributes", [SERVER, {"http.method": "GET", "http.target": "/healthz?full=1"}])
def test_default_ignores_apply_to_server_roots(attributes: Mapping[str, Any]) -> None:
    """Either convention; recorded all the same (isolation, breadcrumbs), decision "no", counted as ignored."""
    provider = TracerProvider(sampler=SentrySampler(traces_sample_rate=1.0))
    with provider.get_tracer("t").start_as_current_span("GET", kind=SpanKind.SERVER, attributes=attributes) as span:
        assert span.is_recording() and span.get_span_context().trace_state["sentry"].startswith("s:0")
    assert counters.snapshot() == {("ignored", "transaction"): 1, ("ignored", "span"): 1}


def test_default_ignores_leave_the_rest_alone() -> None:
    """No request (a task called "ping", a client's call to /healthz), or switched off: kept."""
    for sampler, kind in (
        (SentrySampler(traces_sample_rate=1.0), SpanKind.CLIENT),
        (SentrySampler(traces_sample_rate=1.0), SpanKind.INTERNAL),
        (SentrySampler(traces_sample_rate=1.0, default_ignores=False), SpanKind.SERVER),
    ):
        span = TracerProvider(sampler=sampler).get_tracer("t").start_span("GET", kind=kind, attributes=SERVER)
        assert span.get_span_context().trace_state["sentry"].startswith("s:1")


# Spans below the root


def tree(ignore: tuple[str, ...]) -> tuple[Segment, dict[str, Any]]:
    """root > connect > query > (row, redis); what is left of it and the spans by name."""
    rig = Rig(ignore_spans=ignore)
    tracer = rig.tracer
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("connect"):
        query = {"db.system.name": "postgresql", "db.query.text": "SELECT 1"}
        with tracer.start_as_current_span("query", kind=SpanKind.CLIENT, attributes=query):
            tracer.start_span("row", attributes={"http.route": "/x"}).end()
            tracer.start_span("GET", kind=SpanKind.CLIENT, attributes={"db.system": "redis"}).end()
    (segment,) = rig.drain()
    spans = {span.name: span for span in segment.spans}
    assert segment.root is not None
    return segment, {**spans, "root": segment.root}


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        ("name=connect", {"connect"}),
        ("name=con*", {"connect"}),
        ("op=db.redis", {"GET"}),
        ("op=db*", {"GET", "query"}),
        ("attr.http.route=/x", {"row"}),
        ("attr.db.query.text=SELECT 1", {"query"}),
        ("attr.db.system=postgresql", {"query"}),  # as Sentry is told, whatever convention it came in
        ("name=connect&op=db", set()),
        ("name=GET&op=db.redis", {"GET"}),
        ("name=connect,op=db.redis", {"GET", "connect"}),
        ("name=root", set()),  # roots have OTEL_SENTRY_IGNORE_TRANSACTIONS
    ],
)
def test_ignored_spans(rule: str, gone: set[str]) -> None:
    """By name, operation and attributes (either convention), all conditions of one rule; counted as ignored."""
    _, left = tree(rules.span_rules(rule))
    assert {"root", "connect", "query", "row", "GET"} - set(left) == gone
    assert counters.snapshot() == ({("ignored", "span"): len(gone)} if gone else {})


def test_children_of_ignored_spans_hang_on_the_grandparent() -> None:
    """Also over two in a row: the tree stays whole, whatever the format it is sent in."""
    _, left = tree(("name=connect", "name=query"))
    for name in ("row", "GET"):
        assert left[name].parent.span_id == left["root"].context.span_id
        assert left[name].parent.trace_id == left["root"].context.trace_id


def test_a_span_that_an_issue_points_to_stays() -> None:
    """An issue's span is there when somebody looks for it, whatever the rules say."""
    rig = Rig(ignore_spans=("name=connect",))
    with rig.tracer.start_as_current_span("root"), rig.tracer.start_as_current_span("connect") as span:
        segment = current_segment()
        assert segment is not None
        segment.event_ids.append((span.get_span_context().span_id, "ab" * 16))
    (sent,) = rig.drain()
    assert [span.name for span in sent.spans] == ["connect"]


# Keep


class Kept:
    """A provider with our sampler at a rate and the pipeline, with keep rules."""

    def __init__(self, text: str, rate: float = 0.0, **options: Any) -> None:
        self.outbox = Outbox()
        self.segments: list[Segment] = []
        self.sampler = SentrySampler(traces_sample_rate=rate, **options)
        outbox: Any = self.outbox
        encode: Any = self.segments.append
        pipeline = SpanPipeline(self.sampler, sender=lambda: outbox, encode=encode, keep=rules.keep(text))
        provider = TracerProvider(sampler=self.sampler)
        provider.add_span_processor(pipeline)
        self.tracer = provider.get_tracer("t")

    def sent(self) -> list[Segment]:
        for item in self.outbox.items:
            item.encode()
        self.outbox.items.clear()
        return self.segments


def test_a_failed_segment_is_kept_whole() -> None:
    """Head sampling said no; the root failed: all its spans are sent, its weight is 1, the loss is taken back."""
    rig = Kept("error")
    with rig.tracer.start_as_current_span("root") as root:
        for number in range(300):  # more than the breadcrumbs that an unsampled segment keeps
            rig.tracer.start_span(f"s{number}").end()
        root.set_status(Status(StatusCode.ERROR))
    (segment,) = rig.sent()
    assert len(segment.spans) == 300 and segment.kept
    assert {key: value for key, value in counters.snapshot().items() if value} == {}
    assert segment.decision.sampled is False, "what other services were told stays as it was"


def test_a_slow_segment_is_kept() -> None:
    """Longer than the threshold, not as long as it; a failed one is not asked for here."""
    rig = Kept("slow>2s")
    for end, failed in ((3 * SECOND, False), (2 * SECOND, False), (SECOND, True)):
        span = rig.tracer.start_span("root", start_time=1)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end + 1)
    (segment,) = rig.sent()
    assert segment.root is not None and segment.root.end_time == 3 * SECOND + 1
    assert counters.snapshot()["sample_rate", "transaction"] == 2


def test_an_unhandled_error_keeps_the_segment() -> None:
    """The root itself may look fine: a view that answers 200 after its worker thread has failed."""
    rig = Kept("error")
    with rig.tracer.start_as_current_span("root"):
        segment = current_segment()
        assert segment is not None
        segment.failed = True
    assert len(rig.sent()) == 1


def test_a_sampled_segment_that_a_rule_wants_weighs_one_too() -> None:
    """All failed ones are there, drawn or not: at rate 0.5 each of them stands for one, or they count too much."""
    rig = Kept("error", rate=1.0)
    for failed in (True, False):
        with rig.tracer.start_as_current_span("root") as root:
            if failed:
                root.set_status(Status(StatusCode.ERROR))
    assert [segment.kept for segment in rig.sent()] == [True, False]


def test_ignored_roots_are_not_brought_back() -> None:
    """A health check that fails, an OPTIONS request, a name of the user's rule: left out by a rule, not by a rate."""
    rig = Kept("error,slow>0s", rate=1.0, ignore_transactions=["^noise"])
    for name, kind, attributes in (
        ("GET", SpanKind.SERVER, SERVER),
        ("OPTIONS", SpanKind.SERVER, {"http.request.method": "OPTIONS", "url.path": "/"}),
        ("noise", SpanKind.INTERNAL, {}),
    ):
        span = rig.tracer.start_span(name, kind=kind, attributes=attributes)
        span.set_status(Status(StatusCode.ERROR))
        span.end()
    assert rig.sent() == []


def test_what_was_reported_lost_is_set_off() -> None:
    """The loss was counted at the start, and perhaps reported: the next ones make up for it, no report is negative."""
    counters.lost("sample_rate", "transaction", 1)
    assert counters.drain() == [("sample_rate", "transaction", 1)]
    counters.take_back("sample_rate", "transaction")
    assert counters.drain() == []
    counters.lost("sample_rate", "transaction", 3)
    assert counters.drain() == [("sample_rate", "transaction", 2)]
    assert counters.drain() == []


def test_late_children_of_a_kept_segment_are_sent() -> None:
    """Kept whole means late children too; those of a segment that no rule wants go with it."""
    rig = Kept("error")
    for failed in (True, False):
        root = rig.tracer.start_span("root")
        late = rig.tracer.start_span("late", context=set_span_in_context(root))
        if failed:
            root.set_status(Status(StatusCode.ERROR))
        root.end()
        rig.sent()
        late.end()
    assert [segment.root.name for segment in rig.sent() if segment.root] == ["root", "late"]


def test_without_rules_an_unsampled_segment_holds_little() -> None:
    """Decision 20: the whole is buffered only where somebody asked for it."""
    rig = Kept("off")
    with rig.tracer.start_as_current_span("root") as root:
        for _ in range(500):
            rig.tracer.start_span("s").end()
        segment = current_segment()
        assert segment is not None and len(segment.spans) == 100
        root.set_status(Status(StatusCode.ERROR))
    assert rig.sent() == []
