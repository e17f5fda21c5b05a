"""OpenTelemetry's metrics: a `MeterProvider` with OTLP exporters, and with Sentry's when all metrics go there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)

from otel_sentry import guard
from otel_sentry.backends import outlets
from otel_sentry.backends.outlet import DELIVERED, REFUSED, Outlet
from otel_sentry.backends.resource import Resources
from otel_sentry.privacy import scrub

if TYPE_CHECKING:
    from otel_sentry.settings import Settings


def make_provider(names: Iterable[str], settings: Settings, resource: Any, *, to_sentry: bool) -> MeterProvider | None:
    """The provider with these exporters, made the global one; None when there is nothing to export to."""
    readers: list[MetricReader] = []
    if to_sentry:  # first: a provider flushes its readers one after the other, and another backend may hang
        from otel_sentry.sentry.metric_points import SentryMetricExporter

        readers.append(PeriodicExportingMetricReader(SentryMetricExporter()))
    exporters = [MetricOutlet(one, settings) for one in outlets(names, settings, "metrics")]
    readers.extend(PeriodicExportingMetricReader(one) for one in exporters)
    if not readers:
        return None
    if isinstance(metrics.get_meter_provider(), MeterProvider):
        guard.say("your MeterProvider stays: OTEL_METRICS_EXPORTER and OTEL_SENTRY_METRICS=all have no effect")
        for reader in readers:
            reader.shutdown()
        return None
    provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    return provider


class MetricOutlet(MetricExporter):
    """An exporter that gets no secrets, and is left alone for a while when its backend is away."""

    def __init__(self, outlet: Outlet, settings: Settings) -> None:
        inner = outlet.exporter
        super().__init__(
            preferred_temporality=getattr(inner, "_preferred_temporality", None),
            preferred_aggregation=getattr(inner, "_preferred_aggregation", None),
        )
        self._outlet = outlet
        self._pii = settings.send_default_pii
        self._resources = Resources(settings)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Scrub and send; what can't be sent is lost: the next export says a counter's total again."""
        scopes = [scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics]
        quantity = sum(len(metric.data.data_points) for scope in scopes for metric in scope.metrics)
        outcome = ""
        if not self._outlet.paused_s:
            outcome = self._outlet.send(self._clean(metrics_data), quantity, timeout_millis=timeout_millis)
        if outcome is DELIVERED:
            return MetricExportResult.SUCCESS
        if outcome is not REFUSED:
            self._outlet.lose("unreachable", quantity)
        return MetricExportResult.FAILURE

    def _clean(self, data: MetricsData) -> MetricsData:
        return MetricsData(
            [
                dataclasses.replace(
                    one,
                    resource=self._resources.of(one.resource),
                    scope_metrics=[
                        dataclasses.replace(scope, metrics=[self._metric(metric) for metric in scope.metrics])
                        for scope in one.scope_metrics
                    ],
                )
                for one in data.resource_metrics
            ]
        )

    def _metric(self, metric: Any) -> Any:
        points = [self._point(point) for point in metric.data.data_points]
        return dataclasses.replace(metric, data=dataclasses.replace(metric.data, data_points=points))

    def _point(self, point: Any) -> Any:
        exemplars = [
            dataclasses.replace(one, filtered_attributes=scrub(one.filtered_attributes or {}, pii=self._pii))
            for one in point.exemplars or ()
        ]
        return dataclasses.replace(point, attributes=scrub(point.attributes or {}, pii=self._pii), exemplars=exemplars)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Let the exporter go."""
        self._outlet.close()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits here."""
        return True
