"""OpenTelemetry's metric points as Sentry's metric items (``OTEL_SENTRY_METRICS=all``).

A counter's increase since the last export is a counter, everything that has a level (gauges, up-down counters) a gauge.
A histogram holds no single values any more, so it becomes what it does know: the counters ``<name>.count`` and
``<name>.sum`` and the gauges ``<name>.min`` and ``<name>.max``; rates and averages are right, percentiles are OTLP's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    Sum,
)

from otel_sentry import guard
from otel_sentry.sentry import metrics_v2
from otel_sentry.sentry.metrics_v2 import unit_of

#: Instruments of business calls: those have written their items themselves (decision 28).
OURS = "otel_sentry.business"

_DELTA, _CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
_TEMPORALITY: dict[type, AggregationTemporality] = {
    Counter: _DELTA,
    Histogram: _DELTA,
    ObservableCounter: _DELTA,
    ObservableGauge: _CUMULATIVE,
    ObservableUpDownCounter: _CUMULATIVE,
    UpDownCounter: _CUMULATIVE,
}


class SentryMetricExporter(MetricExporter):
    """Writes the points of each collection to Sentry's metrics."""

    def __init__(self) -> None:
        super().__init__(preferred_temporality=dict(_TEMPORALITY))

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Queue them; never waits."""
        with guard.block("metric export"):
            for metric in _metrics(metrics_data):
                for point in metric.data.data_points:
                    _put(metric, point)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing to close."""


def _metrics(data: MetricsData) -> Iterator[Any]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            name = scope.scope.name
            if name != OURS and not name.startswith(OURS + "."):
                yield from scope.metrics


def _put(metric: Any, point: Any) -> None:
    unit = unit_of(metric.unit)
    for suffix, kind, value in _values(metric.data, point):
        metrics_v2.put(
            metric.name + suffix, kind, value, None if suffix == ".count" else unit, point.attributes,
            *_exemplar(point), at=point.time_unix_nano / 1e9,
        )  # fmt: skip


def _values(data: Any, point: Any) -> Iterator[tuple[str, str, float]]:
    if hasattr(point, "count"):  # explicit and exponential histograms
        if point.count:
            yield ".count", "counter", point.count
            yield ".sum", "counter", point.sum
            yield ".min", "gauge", point.min
            yield ".max", "gauge", point.max
    elif isinstance(data, Sum) and data.is_monotonic:
        if point.value:
            yield "", "counter", point.value
    else:
        yield "", "gauge", point.value


def _exemplar(point: Any) -> tuple[int, int]:
    """Ids of a span that contributed to the point, where the SDK has kept one."""
    for exemplar in point.exemplars:
        if exemplar.trace_id:
            return exemplar.trace_id, exemplar.span_id or 0
    return 0, 0
