"""A million feature names: how many series they make, what memory they cost, and what a call costs the caller.

    python benchmarks/cardinality.py [NAMES]

A row counts only if the counts that were recorded add up to the calls that were made.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from typing import Any

from opentelemetry import metrics as otel
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_sentry
from otel_sentry import business_metrics
from otel_sentry.business import limits, metrics, worker


def main(names: int) -> None:
    """Print the figures."""
    reader = InMemoryMetricReader()
    otel.set_meter_provider(MeterProvider([reader]))
    otel_sentry.configure(dsn="http://key@127.0.0.1:1/1", environment="production", store="memory", metrics="off")
    _burst(1)  # imports, instruments
    memory = []
    started = time.thread_time()
    for number in range(names):
        business_metrics.track_feature_usage(f"feature {number}", f"usage {number % 10}", None, {"size": number})
        if number % (names // 4 or 1) == names // 8:
            _settle()
            memory.append(_memory())
    spent = time.thread_time() - started
    _settle()
    series, total = _series(reader)
    assert total == names + 1, f"{total} recorded of {names + 1}"
    print(f"{names} names: {series} series (bound: {limits.MAX_SERIES} a metric), all {total} calls counted")
    print(f"peak memory so far, in the middle of each quarter: {', '.join(f'{one:.1f} MB' for one in memory)}")
    print(f"a call without end, helping the worker: {spent / names * 1e6:.0f} us of CPU")
    costs = [_burst(100) for _ in range(50)]
    print(f"a call in bursts of 100: median {statistics.median(costs):.1f} us, worst burst {max(costs):.1f} us a call")


def _burst(calls: int) -> float:
    """us of CPU that one call costs its caller."""
    _settle()
    started = time.thread_time()
    for _ in range(calls):
        business_metrics.track_feature_usage("export", "csv", "7", {"size": 1, "seconds": 2})
    return (time.thread_time() - started) / calls * 1e6


def _memory() -> float:
    """The most that the process has taken, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _settle() -> None:
    for _ in range(3):
        metrics.settle()
        worker.flush(30)


def _series(reader: InMemoryMetricReader) -> tuple[int, int]:
    found: dict[str, Any] = {
        metric.name: metric.data.data_points
        for one in reader.get_metrics_data().resource_metrics  # type: ignore[union-attr]
        for scope in one.scope_metrics
        for metric in scope.metrics
    }
    return sum(map(len, found.values())), int(sum(point.value for point in found["feature.used"]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
