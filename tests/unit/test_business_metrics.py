"""Measurements of the business: where they go, what bounds them, and `business_metrics`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind, Status, StatusCode

import otel_sentry
from otel_sentry import business_metrics, counters, runtime, tag_business_operation
from otel_sentry.business import daily, limits, metrics, roots, store, users, worker
from otel_sentry.sentry import metrics_v2
from otel_sentry.trace.segment import current_segment
from tests.support import docs
from tests.support.client import Sentry, sentry_sdk_set_up


def _reset() -> None:
    worker.flush(5)
    metrics_v2.batcher._reset()
    for module in (metrics, limits, daily, users):
        module.reset()  # type: ignore[attr-defined]
    daily._saved = 0.0
    users._orders.clear()
    store._chosen = None


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    _reset()
    yield
    _reset()


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up(store="memory") as one:
        yield one


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """A meter provider is on."""
    one = InMemoryMetricReader()
    provider = MeterProvider([one], shutdown_on_exit=False)
    monkeypatch.setattr(metrics, "_provider", lambda: provider)
    yield one
    provider.shutdown()


def settled() -> None:
    """All that was measured has arrived."""
    for _ in range(3):
        metrics.settle()
        assert worker.flush(5)


def items(sentry: Sentry) -> dict[tuple[str, ...], Any]:
    """What Sentry got: (name, label values in the order of their names) -> value; of counters the sum."""
    settled()
    metrics_v2.batcher.flush()
    found: dict[tuple[str, ...], Any] = {}
    for one in sentry.sender.envelopes:
        for head, body in one.items:
            for item in body["items"] if head["type"] == "trace_metric" else ():
                labels = {k: v["value"] for k, v in item["attributes"].items() if "." not in k}
                key = (item["name"], *(labels[name] for name in sorted(labels)))
                found[key] = found.get(key, 0) + item["value"] if item["type"] == "counter" else item["value"]
    return found


def points(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    scopes = [scope for one in (data.resource_metrics if data else ()) for scope in one.scope_metrics]
    assert {scope.scope.name for scope in scopes} <= {"otel_sentry.business"}
    return {metric.name: metric for scope in scopes for metric in scope.metrics}


def test_sentry_and_opentelemetry(sentry: Sentry, reader: InMemoryMetricReader) -> None:
    """A value is Sentry's item with the ids of its span, and in the instrument with the trace as its exemplar."""
    with sentry.tracer.start_as_current_span("job") as span:
        metrics.distribution("kpi.data", 2.5, unit="s", kpi="speed")
    settled()
    metrics_v2.batcher.flush()
    (item,) = [i for one in sentry.sender.envelopes for head, body in one.items for i in body["items"]]
    assert (item["type"], item["value"], item["unit"]) == ("distribution", 2.5, "second")
    assert item["span_id"] == f"{span.get_span_context().span_id:016x}"
    metric = points(reader)["kpi.data"]
    (point,) = metric.data.data_points
    assert (metric.unit, point.sum, dict(point.attributes)) == ("s", 2.5, {"kpi": "speed"})
    assert point.exemplars[0].trace_id == span.get_span_context().trace_id


def test_users_are_counted_after_a_close(sentry: Sentry, capsys: pytest.CaptureFixture[str]) -> None:
    """A close that has dropped the question drops no users that come later, and too many of them are counted."""
    held = threading.Event()
    worker.submit(held.wait)
    users.note("feature.users", {"feature": "a"}, "1", time.time())
    worker.close(0.01)
    held.set()
    users.note("feature.users", {"feature": "a"}, "2", time.time())
    assert items(sentry)["feature.users", "a"] == 2
    counters.reset()
    users._waiting["day", "m", ()] = {str(number) for number in range(users.MAX_WAITING)}
    users.note("feature.users", {"feature": "a"}, "3", time.time())
    assert counters.snapshot() == {("queue_overflow", "business"): 1}
    users.reset()


def test_off_means_sentry(reader: InMemoryMetricReader) -> None:
    """OTEL_SENTRY_METRICS=off keeps values from Sentry; an exporter of OpenTelemetry's that was asked for has them."""
    with sentry_sdk_set_up(metrics="off") as sentry:
        metrics.count("auth.login", outcome="ok")
        assert items(sentry) == {}
    assert points(reader)["auth.login"].data.data_points[0].value == 1


@pytest.mark.parametrize(("wanted", "arrives"), [("business", False), ("all", True)])
def test_what_spans_tell(wanted: str, arrives: bool) -> None:
    """Durations of requests go to Sentry as items with OTEL_SENTRY_METRICS=all only: its spans have them."""
    with sentry_sdk_set_up(metrics=wanted) as sentry:
        metrics.distribution("app.request.duration", 1, unit="s", route="GET /", outcome="ok")
        assert bool(items(sentry)) is arrives


def test_nothing_configured() -> None:
    """Without a set-up every call does nothing and raises nothing; no worker starts."""
    assert runtime.get() is None
    metrics.count("auth.login")
    business_metrics.track_conversion_funnel("f", "s", 1, {"a": 1})
    business_metrics.track_feature_usage("f", "u")
    business_metrics.track_kpi("k", 1)
    business_metrics.track_rollout("f", "v")
    assert not metrics._waiting


class _Awkward:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __float__ = __hash__ = __str__  # type: ignore[assignment]


def test_absurd_arguments(sentry: Sentry) -> None:
    """Nothing raises, nothing is swallowed but a `__float__` that raises, and what can't be a number is left out."""
    for value in (None, "many", [], 10**400, float("nan"), float("inf"), -1):
        metrics.count("auth.login", value, outcome="ok")  # type: ignore[arg-type]
    metrics.count("auth.login", outcome=_Awkward(), other=[1, {"a": b"\xff"}], none=None, long="x" * 10_000)
    business_metrics.track_feature_usage(None, 7, _Awkward(), "no mapping")  # type: ignore[arg-type]
    business_metrics.track_kpi(_Awkward(), True, unit=3, target="x", data=[1])  # type: ignore[arg-type]
    business_metrics.declare_funnel(3, ["a", None])  # type: ignore[arg-type, list-item]
    found = items(sentry)
    assert sorted(name for name, *_ in found) == ["auth.login", "feature.used", "kpi.value"]
    assert max(len(str(value)) for key in found for value in key) <= 100


@pytest.fixture
def otel_only() -> Iterator[None]:
    """Values go to the meter provider and the store only: the tests' sender encodes each item on the spot."""
    with sentry_sdk_set_up(store="memory", metrics="off"):
        yield


@pytest.mark.usefixtures("otel_only")
def test_bounded(reader: InMemoryMetricReader, capsys: pytest.CaptureFixture[str]) -> None:
    """Past the bound of a label's values the rest is `other`, with one line; no count is lost; memory stays flat."""
    for number in range(6_000):
        metrics.count("feature.used", feature=f"f{number}", usage=f"u{number % 50}")
        if number % 80 == 0:
            metrics.count(f"made.up.{number}")
    settled()
    found = points(reader)
    series = found["feature.used"].data.data_points
    assert len(series) <= limits.MAX_SERIES + 50 and sum(point.value for point in series) == 6_000
    assert len({point.attributes["feature"] for point in series}) == limits.MAX_VALUES + 1
    assert len(found) <= limits.MAX_NAMES
    assert not metrics._waiting and sum(map(len, daily._waiting.values())) <= daily.MAX_SERIES + 1
    said = capsys.readouterr().err
    assert said.count("values of the label feature") == 1 and said.count("names of metrics") <= 1


@pytest.mark.usefixtures("otel_only")
def test_many_combinations(reader: InMemoryMetricReader) -> None:
    """Combinations of labels are bounded, too."""
    for number in range(1_600):
        metrics.count("feature.used", feature=f"f{number % 80}", usage=f"u{number // 80}")
    settled()
    series = points(reader)["feature.used"].data.data_points
    assert len(series) == limits.MAX_SERIES + 1 and sum(point.value for point in series) == 1_600


def test_labels_are_scrubbed(reader: InMemoryMetricReader) -> None:
    """An e-mail in a label is cleaned before it reaches any backend, once for each value."""
    with sentry_sdk_set_up():
        metrics.count("feature.used", feature="mail to bob@example.com")
        settled()
    (point,) = points(reader)["feature.used"].data.data_points
    assert "bob@" not in point.attributes["feature"]


@pytest.mark.usefixtures("otel_only")
def test_in_a_signal_handler(reader: InMemoryMetricReader) -> None:
    """A handler that interrupts OpenTelemetry's own locked code does not lock up, and its value arrives."""
    before = signal.signal(signal.SIGALRM, lambda *_: metrics.count("auth.login", outcome="failed"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(2_000):
            metrics.count("auth.login", outcome="ok")
            metrics.drain()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    settled()
    values = {p.attributes["outcome"]: p.value for p in points(reader)["auth.login"].data.data_points}
    assert values["ok"] == 2_000 and values["failed"] > 0


@pytest.mark.usefixtures("otel_only")
def test_many_threads(reader: InMemoryMetricReader) -> None:
    """Nothing is lost when callers outrun the worker: they help."""

    def work() -> None:
        for _ in range(1_500):
            metrics.count("auth.login", outcome="ok")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settled()
    assert points(reader)["auth.login"].data.data_points[0].value == 6_000
    day = daily.load(store.get(), "auth.login", daily.last_days(1))
    assert sum(entry["n"] for entry in day.values()) == 6_000


def test_funnel() -> None:
    """The guide's call: a count of the step, distributions of numbers, labels of listed strings, no more."""
    with sentry_sdk_set_up(store="memory", metric_labels=("signup_source",)) as sentry:
        business_metrics.track_conversion_funnel(
            funnel_name="user_onboarding", step="profile_completed", user_id="123",
            conversion_data={"signup_source": "google", "seconds": 30, "note": "secret", "paid": True},
        )  # fmt: skip
        assert items(sentry) == {
            ("funnel.step", "user_onboarding", "google", "profile_completed"): 1,
            ("funnel.value", "seconds", "user_onboarding", "profile_completed"): 30,
            ("funnel.users", "user_onboarding", "profile_completed"): 1,
        }


def test_drop_off(sentry: Sentry) -> None:
    """For a declared funnel the share that each step loses, of distinct users; a user twice is one user."""
    business_metrics.declare_funnel("shop", ["cart", "paid"])
    for user in range(10):
        business_metrics.track_conversion_funnel("shop", "cart", user)
        business_metrics.track_conversion_funnel("shop", "cart", user)
    for user in range(4):
        business_metrics.track_conversion_funnel("shop", "paid", user)
    found = items(sentry)
    assert found["funnel.users", "shop", "cart"] == 10 and found["funnel.users", "shop", "paid"] == 4
    assert found["funnel.step", "shop", "cart"] == 20
    assert found["funnel.drop_off", "shop", "paid"] == pytest.approx(0.6)


def test_feature(sentry: Sentry) -> None:
    """The guide's call; the user is the current one where none is named, and is no label anywhere."""
    with sentry.tracer.start_as_current_span("request", kind=SpanKind.SERVER):
        otel_sentry.set_user("user-42")
        business_metrics.track_feature_usage(
            feature_name="post_creator", usage_type="video_created", usage_data={"file_size": 1024, "duration": 30}
        )
    found = items(sentry)
    assert found == {
        ("feature.used", "post_creator", "video_created"): 1,
        ("feature.value", "post_creator", "file_size"): 1024,
        ("feature.value", "post_creator", "duration"): 30,
        ("feature.users", "post_creator"): 1,
    }


def test_kpi(sentry: Sentry) -> None:
    """Value and target are gauges, the unit a label."""
    business_metrics.track_kpi("revenue", 900.5, unit="EUR", target=1000, data={"orders": 12})
    assert items(sentry) == {
        ("kpi.value", "revenue", "EUR"): 900.5,
        ("kpi.target", "revenue", "EUR"): 1000,
        ("kpi.data", "orders", "revenue"): 12,
    }


def test_rollout(sentry: Sentry) -> None:
    """A variant is a feature flag and a tag of the request's errors, and a label of its operation's duration."""
    with sentry.tracer.start_as_current_span("request", kind=SpanKind.SERVER):
        business_metrics.track_rollout("new_checkout", "b", user_id=1, percentage=25)
        business_metrics.track_rollout("dark_mode", True)
        with tag_business_operation("payment", module="shop"):
            otel_sentry.capture_custom_exception(ValueError("declined"))
        segment = current_segment()
        assert segment is not None
    event = sentry.event
    assert event["contexts"]["flags"]["values"] == [
        {"flag": "new_checkout:b", "result": True},
        {"flag": "dark_mode", "result": True},
    ]
    assert event["tags"]["rollout.new_checkout"] == "b"
    found = items(sentry)
    assert found["rollout.exposure", "new_checkout", "b"] == 1 and found["rollout.users", "new_checkout", "b"] == 1
    assert found["rollout.percentage", "new_checkout"] == 25
    durations = [key for key in found if key[0] == "business.operation.duration"]
    assert durations == [("business.operation.duration", "shop", "payment", "ok", "dark_mode=true,new_checkout=b")]


def test_requests_and_tasks(sentry: Sentry, reader: InMemoryMetricReader) -> None:
    """Roots are measured when they end, sampled or not: outcome, route or task, module; failures of tasks at Sentry."""
    for kind, name, attributes in (
        (SpanKind.SERVER, "GET /a", {"http.response.status_code": 200}),
        (SpanKind.SERVER, "GET /a", {"http.response.status_code": 503}),
        (SpanKind.CONSUMER, "run/posts.tasks.render", {"celery.task_name": "posts.tasks.render"}),
    ):
        with sentry.tracer.start_as_current_span(name, kind=kind, attributes=attributes) as span:
            segment = current_segment()
            assert segment is not None
            if kind is SpanKind.CONSUMER:
                span.set_status(Status(StatusCode.ERROR))
        roots.ended(segment, span)  # type: ignore[arg-type]
    assert items(sentry) == {("app.task.failures", "posts.tasks.render"): 1}
    found = points(reader)
    outcomes = [dict(point.attributes) for point in found["app.request.duration"].data.data_points]
    assert outcomes == [{"route": "GET /a", "outcome": "ok"}, {"route": "GET /a", "outcome": "error"}]
    (task,) = found["app.task.duration"].data.data_points
    assert task.attributes["outcome"] == "error" and 5 in task.explicit_bounds


def test_the_sample_of_the_page(sentry: Sentry) -> None:
    """The page's sample runs, and makes the metrics that it names."""
    exec(docs.sample("docs/metrics-and-catalogue.md", "track_kpi"), {})
    assert {name for name, *_ in items(sentry)} == {
        "funnel.step", "funnel.users", "feature.used", "feature.users", "feature.value", "kpi.value", "kpi.target",
        "funnel.drop_off",
        "rollout.exposure", "rollout.users", "rollout.percentage",
    }  # fmt: skip


def test_store_away(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away sums and users wait, and are written once when it is back."""
    real = store.get()
    away = [True]

    class Flaky:
        def __getattr__(self, name: str) -> Any:
            if away[0]:
                raise store.Unavailable
            return getattr(real, name)

    monkeypatch.setattr(store, "get", Flaky)
    for user in range(5):
        business_metrics.track_feature_usage("export", "csv", user)
    metrics.settle()
    worker.flush(0.2)
    business_metrics.track_feature_usage("export", "csv", 5)
    away[0] = False
    assert items(sentry)["feature.users", "export"] == 6
    day = daily.load(real, "feature.used", daily.last_days(1))
    assert [entry["n"] for entry in day.values()] == [6]


def test_quantiles() -> None:
    """The sums by day know quantiles within 10 %, added up over processes and days."""
    one: dict[str, Any] = {}
    for value in range(1, 1001):
        daily.merge(one, {"": daily.one("distribution", value / 1000)})
    daily.merge(one, {"": daily.one("distribution", 0.0)})
    for share in (0.5, 0.95, 0.99):
        assert daily.quantile(one[""], share) == pytest.approx(share, rel=0.1)


def test_days() -> None:
    """Days are UTC, the oldest first."""
    assert daily.last_days(3, now=0.0) == ["1969-12-30", "1969-12-31", "1970-01-01"]


def test_no_sums_without_a_named_store() -> None:
    """Sums by day are kept only where OTEL_SENTRY_STORE says where the report finds them."""
    with sentry_sdk_set_up() as sentry:
        metrics.count("auth.login", outcome="ok")
        assert items(sentry) and not daily._waiting
