"""OpenTelemetry's metrics: a `MeterProvider` with OTLP exporters, and with Sentry's when all metrics go there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

from otel_sentry import guard
from otel_sentry.backends import exporters


def make_provider(names: Iterable[str], resource: Any, *, to_sentry: bool) -> MeterProvider | None:
    """The provider with these exporters, made the global one; None when there is nothing to export to."""
    readers: list[MetricReader] = [PeriodicExportingMetricReader(exporter) for exporter in exporters(names, "metrics")]
    if to_sentry:
        from otel_sentry.sentry.metric_points import SentryMetricExporter

        readers.append(PeriodicExportingMetricReader(SentryMetricExporter()))
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
