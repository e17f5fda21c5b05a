"""What a gateway of collector-config/scale-out costs: CPU and memory a span, and its size in Kafka and in the queue.

usage: python -m benchmarks.collector     needs: make collector, Java, Maven (the tests fetch Kafka)

CPU seconds of the processes, not wall time: other programs on the machine do not change them much. The sizing table of
collector-config/README.md is worked out from what this prints.
"""

from __future__ import annotations

import os
import pathlib
import random
import time
import urllib.request
from contextlib import ExitStack
from typing import Any

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support import collector
from tests.support.otlp import OtlpReceiver

TRACES, SPANS = 10_000, 8
#: Attributes of a usual span: a query of Django's, about 600 bytes in OTLP.
ATTRIBUTES = {
    "db.system.name": "postgresql", "db.namespace": "shop", "db.operation.name": "SELECT",
    "db.query.summary": "SELECT posts_post", "server.address": "db.internal", "server.port": "5432",
    "db.query.text": 'SELECT "posts_post"."id", "posts_post"."title", "posts_post"."kind" FROM "posts_post" '
                     'WHERE "posts_post"."id" = %s LIMIT 21',
    "business.operation": "post_creation", "business.module": "posts", "user_type": "customer",
}  # fmt: skip


def requests() -> list[bytes]:
    """The load, 400 spans a request."""
    draw, bodies = random.Random(1), []
    per = 400 // SPANS
    for _ in range(TRACES // per):
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        for key, value in {"service.name": "shop", "deployment.environment.name": "production"}.items():
            resource.resource.attributes.add(key=key).value.string_value = value
        scope = resource.scope_spans.add()
        for _ in range(per):
            trace_id = draw.randbytes(16)
            for _ in range(SPANS):
                now, name = time.time_ns(), f"SELECT {draw.randrange(500)}"
                span = scope.spans.add(
                    trace_id=trace_id, span_id=draw.randbytes(8), name=name, start_time_unix_nano=now,
                    end_time_unix_nano=now + draw.randrange(10**8),
                )  # fmt: skip
                for key, value in {**ATTRIBUTES, "user.id": str(draw.randrange(10**6))}.items():
                    span.attributes.add(key=key).value.string_value = value
        bodies.append(request.SerializeToString())
    return bodies


def _process(running: collector.Collector) -> psutil.Process:
    assert running.process is not None
    return psutil.Process(running.process.pid)


def _cpu(process: psutil.Process) -> float:
    times: Any = process.cpu_times()
    return float(times.user + times.system)


def _size(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Print the figures."""
    total, bodies = TRACES * SPANS, requests()
    print(f"{total} spans of {sum(map(len, bodies)) / total:.0f} bytes in OTLP")
    with ExitStack() as stack:
        broker = stack.enter_context(collector.kafka())
        broker.create("otlp_spans", "otlp_metrics", "otlp_logs")
        end = stack.enter_context(OtlpReceiver())
        env = {"KAFKA_BROKERS": broker.address, "SENTRY_OTLP": end.url, "SENTRY_PUBLIC_KEY": "k"}
        agent = stack.enter_context(collector.collector("scale-out/agent.yaml", **env))
        before, log_before = _cpu(_process(agent)), _size(broker.folder)
        for body in bodies:
            headers = {"Content-Type": "application/x-protobuf"}
            urllib.request.urlopen(urllib.request.Request(f"{agent.http}/v1/traces", body, headers)).close()
        time.sleep(5)
        print(f"agent: {(_cpu(_process(agent)) - before) / total * 1e6:.0f} us of CPU a span")
        print(f"Kafka: {(_size(broker.folder) - log_before) / total:.0f} bytes a span (zstd)")
        # All traces are held until the decision: that is what `num_traces` costs.
        wait = {"OTELCOL_DECISION_WAIT": "40s", "OTELCOL_NUM_TRACES": str(TRACES * 2)}
        gateway = stack.enter_context(collector.collector("scale-out/gateway.yaml", **env, **wait))
        process = _process(gateway)
        idle = process.memory_info().rss
        time.sleep(30)
        print(f"gateway: {(process.memory_info().rss - idle) / total:.0f} bytes of memory a waiting span")
        deadline = time.monotonic() + 120
        while len(end.spans) < total and time.monotonic() < deadline:
            time.sleep(0.5)
        print(f"gateway: {_cpu(process) / total * 1e6:.0f} us of CPU a span; {len(end.spans)} of {total} arrived")
    print(f"on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
