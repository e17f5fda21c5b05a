"""Sentry's metric items: those of business calls, and OpenTelemetry's points (decision 28)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from otel_sentry import counters, signals
from otel_sentry.sentry import batch, client, metrics_v2
from otel_sentry.sentry.metric_points import SentryMetricExporter
from otel_sentry.sentry.metrics_v2 import unit_of
from tests.support.client import Sentry, sentry_sdk_set_up
from tests.unit.test_logs import Held


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    metrics_v2.batcher._reset()
    yield
    metrics_v2.batcher._reset()


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up(release="r1") as one:
        yield one


def items(sentry: Sentry) -> list[dict[str, Any]]:
    """The metric items that have left, after a flush."""
    metrics_v2.batcher.flush()
    bodies = [body for one in sentry.sender.envelopes for head, body in one.items if head["type"] == "trace_metric"]
    return [item for body in bodies for item in body["items"]]


def test_record(sentry: Sentry) -> None:
    """Name, kind, value, unit, typed attributes and the ids of the span it happened in; release and environment."""
    with sentry.tracer.start_as_current_span("job") as span:
        metrics_v2.record("checkout.price", "distribution", 9.5, "euro", {"plan": "pro", "items": 3})
    (item,) = items(sentry)
    context = span.get_span_context()
    assert (item["name"], item["type"], item["value"], item["unit"]) == ("checkout.price", "distribution", 9.5, "euro")
    assert (item["trace_id"], item["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert item["attributes"]["plan"] == {"value": "pro", "type": "string"}
    assert item["attributes"]["items"] == {"value": 3, "type": "integer"}
    assert item["attributes"]["sentry.release"]["value"] == "r1"


def test_container(sentry: Sentry) -> None:
    """The item's type, content type and count; category trace_metric; no `trace` in the envelope's header."""
    metrics_v2.record("a", "counter", 1)
    items(sentry)
    (envelope,) = sentry.sender.envelopes
    ((head, body),) = envelope.items
    assert head["type"] == "trace_metric" and head["item_count"] == 1 and body["version"] == 2
    assert head["content_type"] == "application/vnd.sentry.items.trace-metric+json"
    assert envelope.categories == (("trace_metric", 1),) and "trace" not in envelope.header


def test_off() -> None:
    """OTEL_SENTRY_METRICS=off: nothing leaves."""
    with sentry_sdk_set_up(metrics="off") as sentry:
        metrics_v2.record("a", "counter", 1)
        assert items(sentry) == []


def test_without_set_up() -> None:
    """With nothing configured it does nothing."""
    metrics_v2.record("a", "counter", 1)
    assert len(metrics_v2.batcher) == 0


def test_before_send_metric() -> None:
    """The hook may change a metric; None drops it with a count."""

    def hook(metric: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any] | None:
        return None if metric["name"] == "drop" else {**metric, "value": 2.0}

    with sentry_sdk_set_up(before_send_metric=hook) as sentry:
        metrics_v2.record("keep", "counter", 1)
        metrics_v2.record("drop", "counter", 1)
        assert [(item["name"], item["value"]) for item in items(sentry)] == [("keep", 2.0)]
    assert counters.snapshot() == {("before_send", "trace_metric"): 1}


def test_secrets(sentry: Sentry) -> None:
    """Attributes go through the scrubber."""
    metrics_v2.record("a", "counter", 1, attributes={"api_key": "k-123", "who": "bob@example.com"})
    found = items(sentry)[0]["attributes"]
    assert found["api_key"]["value"] == "[Filtered]" and "bob@" not in found["who"]["value"]


@pytest.mark.allow_swallowed
def test_a_bad_value_breaks_nothing(sentry: Sentry) -> None:
    """A value that is no number raises nothing in the program."""
    metrics_v2.record("a", "counter", "many")  # type: ignore[arg-type]
    assert items(sentry) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_infinite_values(sentry: Sentry, value: float) -> None:
    """JSON has no word for them: they are dropped and counted."""
    metrics_v2.record("a", "gauge", value)
    assert items(sentry) == [] and counters.snapshot() == {("internal_sdk_error", "trace_metric"): 1}


def test_bounds(sentry: Sentry) -> None:
    """A batch has at most 1000 metrics and half a megabyte; attributes of one metric are bounded too."""
    held = Held()
    sentry.runtime.sender = held  # type: ignore[assignment]
    for _ in range(3000):
        metrics_v2.record("a", "counter", 1, attributes={str(n): n for n in range(80)})
    full = [one for one in held if one.categories]
    assert full and all(one.size <= batch.MAX_BYTES + 10_000 for one in full)
    assert all(len(record.attributes) == 50 for record in full[0]._records)


@pytest.fixture
def meters(sentry: Sentry) -> Iterator[MeterProvider]:
    reader = PeriodicExportingMetricReader(SentryMetricExporter(), export_interval_millis=3_600_000)
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def found(sentry: Sentry) -> dict[str, tuple[Any, ...]]:
    sentry_items = items(sentry)
    sentry.sender.envelopes.clear()
    return {item["name"]: (item["type"], item["value"], item.get("unit")) for item in sentry_items}


def test_otel_points(sentry: Sentry, meters: MeterProvider) -> None:
    """Counters are increases, up-down counters and gauges levels, a histogram its count, sum, min and max."""
    meter = meters.get_meter("app")
    jobs, open_ = meter.create_counter("jobs", "{job}"), meter.create_up_down_counter("open")
    took = meter.create_histogram("took", "s")
    meter.create_gauge("heat", "Cel").set(21.5)
    jobs.add(3)
    open_.add(2)
    took.record(0.5)
    took.record(1.5)
    meters.force_flush()
    assert found(sentry) == {
        "jobs": ("counter", 3.0, None),
        "open": ("gauge", 2.0, None),
        "heat": ("gauge", 21.5, "Cel"),
        "took.count": ("counter", 2.0, None),
        "took.sum": ("counter", 2.0, "second"),
        "took.min": ("gauge", 0.5, "second"),
        "took.max": ("gauge", 1.5, "second"),
    }
    jobs.add(1)
    open_.add(-1)
    meters.force_flush()
    again = found(sentry)
    assert again["jobs"] == ("counter", 1.0, None), "the increase since the last export"
    assert again["open"] == ("gauge", 1.0, None), "the level"
    assert "took.count" not in again


def test_exemplars_join_the_trace(sentry: Sentry, meters: MeterProvider) -> None:
    """A point whose exemplar names a span is joined to it."""
    with sentry.tracer.start_as_current_span("job") as span:
        meters.get_meter("app").create_counter("jobs").add(1)
    meters.force_flush()
    (item,) = items(sentry)
    assert item["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert item["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_business_instruments_are_left_out(sentry: Sentry, meters: MeterProvider) -> None:
    """Decision 28: the exporter leaves out the instruments of business calls, which wrote their items themselves."""
    meters.get_meter("otel_sentry.business").create_counter("funnel").add(1)
    meters.get_meter("otel_sentry.business.extra").create_counter("funnel2").add(1)
    meters.get_meter("otel_sentry.businesslike").create_counter("theirs").add(1)
    meters.force_flush()
    assert set(found(sentry)) == {"theirs"}


@pytest.mark.parametrize(("ucum", "unit"), [("s", "second"), ("By", "byte"), ("{request}", None), ("V", "V")])
def test_units(ucum: str, unit: str | None) -> None:
    """OpenTelemetry's units as Sentry names them."""
    assert unit_of(ucum) == unit


@pytest.mark.parametrize("metrics", ["off", "business"])
def test_no_meter_provider_by_default(metrics: str) -> None:
    """otel-python.md 1.4: no idle providers; only `all` or an exporter makes one."""
    with sentry_sdk_set_up(metrics=metrics) as sentry:
        signals.install(sentry.runtime)
        assert signals.others("shutdown") == []


def test_sentry_sdks_own_batches_are_flushed(sentry: Sentry) -> None:
    """`sentry_sdk.metrics` of an application leaves at our flush; not from a signal that came inside of its batcher."""
    import sentry_sdk

    client.ensure()
    sentry_sdk.metrics.count("theirs", 1)
    batcher: Any = sentry_sdk.get_client().metrics_batcher
    active = getattr(batcher, "_active", None)  # sentry-sdk 2.44 does not know whether a thread is inside
    if active is not None:
        active.flag = True
        signals.drain()
        assert items(sentry) == []
        active.flag = False
    signals.drain()
    assert [item["name"] for item in items(sentry)] == ["theirs"]
    batcher.kill()
