"""The pieces of a Collector's configuration, as YAML: what `otel_sentry.cli.collector` puts together.

Component names are those of Collector 0.155; a literal ``$`` of an expression is written ``$$``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

BACKENDS = ("sentry", "datadog", "grafana", "prometheus", "local")

_RETRY = "retry_on_failure: {enabled: true, initial_interval: 1s, max_interval: 10s, max_elapsed_time: 0}\n"
#: A queue on disk that is tried for ever.
_ON_DISK = f"""\
timeout: 30s
{_RETRY}sending_queue:
  enabled: true
  storage: file_storage/queue
  sizer: items
"""
#: There is no `batch` processor: it acknowledges what it only holds in memory.
_QUEUE = (
    _ON_DISK
    + """\
  queue_size: ${env:OTELCOL_QUEUE_SIZE:-500000}
  num_consumers: 4
  block_on_overflow: false
  batch: {flush_timeout: 1s, min_size: 1000, max_size: 5000}
"""
)


class Component(NamedTuple):
    """One entry of a section: its name and its YAML."""

    name: str
    body: str


RECEIVER = Component(
    "otlp",
    """\
protocols:
  grpc: {endpoint: "${env:OTELCOL_GRPC:-0.0.0.0:4317}"}
  http: {endpoint: "${env:OTELCOL_HTTP:-0.0.0.0:4318}"}
""",
)


def _kafka_receiver(signal: str, topic: str) -> Component:
    """A consumer group for each signal, so that a rebalance of one leaves the others alone."""
    return Component(
        f"kafka/{signal}",
        f"""\
brokers: ["${{env:KAFKA_BROKERS:-kafka:9092}}"]
group_id: "${{env:KAFKA_GROUP:-otel-gateway}}-{signal}"
initial_offset: earliest        # a new group reads what waits there
group_rebalance_strategies: [cooperative-sticky]
{signal}: {{topics: ["${{env:KAFKA_PREFIX:-otlp}}_{topic}"]}}
message_marking: {{after: true, on_error: false}}
error_backoff: {{enabled: true, initial_interval: 1s, max_interval: 10s, max_elapsed_time: 0}}
""",
    )


#: Agents write to Kafka by trace id; a gateway gets whole traces, whichever it is (`scale-out/`).
KAFKA_RECEIVERS = tuple(
    _kafka_receiver(signal, topic) for signal, topic in (("traces", "spans"), ("metrics", "metrics"), ("logs", "logs"))
)
_KAFKA_EXPORTER = Component(
    "kafka",
    """\
brokers: ["${env:KAFKA_BROKERS:-kafka:9092}"]
traces: {topic: "${env:KAFKA_PREFIX:-otlp}_spans"}
metrics: {topic: "${env:KAFKA_PREFIX:-otlp}_metrics"}
logs: {topic: "${env:KAFKA_PREFIX:-otlp}_logs"}
partition_traces_by_id: true
producer: {required_acks: -1, compression: zstd, max_message_bytes: 1000000}
"""
    + _ON_DISK
    + "  queue_size: 500000\n  num_consumers: 4\n",
)
EXTENSIONS = (
    Component("health_check", 'endpoint: "${env:OTELCOL_HEALTH:-127.0.0.1:13133}"\n'),
    Component(
        "file_storage/queue",
        """\
directory: "${env:OTELCOL_QUEUE_DIR:-./otelcol-queue}"
create_directory: true
fsync: ${env:OTELCOL_FSYNC:-false}  # true: survives a power cut, too; costs much (README)
compaction:
  on_start: true
  on_rebound: true
  cleanup_on_start: true
  directory: "${env:OTELCOL_QUEUE_DIR:-./otelcol-queue}"
""",
    ),
)
_LIMITER = Component(
    "memory_limiter",
    "# First in each pipeline: it refuses, and the clients try again.\n"
    "check_interval: 1s\nlimit_percentage: 80\nspike_limit_percentage: 20\n",
)
_REDACTION = Component(
    "redaction/secrets",
    """\
# otel-sentry scrubs before it sends; this is for the programs beside it that do not.
allow_all_keys: true
redact_all_types: true
blocked_key_patterns:
  - "(?i)(^|[._-])(passw(or)?d|passwd|secret|token|authorization|cookie|set-cookie|api[._-]?key|private[._-]?key)$$"
blocked_values:
  - "\\\\beyJ[A-Za-z0-9_-]{8,}\\\\.[A-Za-z0-9_-]{8,}\\\\.[A-Za-z0-9_-]*"       # JWT
  - "\\\\b(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}\\\\b"                     # Stripe
  - "\\\\bgh[pousr]_[A-Za-z0-9]{20,}\\\\b"                                      # GitHub
  - "\\\\bxox[abprs]-[A-Za-z0-9-]{10,}"                                         # Slack
  - "\\\\bAKIA[0-9A-Z]{16}\\\\b"                                                # AWS
summary: info
""",
)
_TRANSFORM = Component(
    "transform/urls",
    """\
# Query strings and the user part of URLs, with all that people put there.
error_mode: ignore
trace_statements:
  - context: span
    statements:
      - replace_pattern(attributes["url.full"], "\\\\?.*$$", "?[Filtered]")
      - replace_pattern(attributes["http.url"], "\\\\?.*$$", "?[Filtered]")
      - replace_pattern(attributes["url.full"], "//[^/@]*@", "//[Filtered]@")
      - replace_pattern(attributes["http.url"], "//[^/@]*@", "//[Filtered]@")
      - delete_key(attributes, "db.statement.parameters")
      - delete_key(attributes, "db.query.parameters")
""",
)
#: `otel_sentry.trace.CARRIER_ATTRIBUTES`, which only Sentry can use; `sentry.event_id` stays: it leads to the issue.
_STRIP = Component(
    "transform/strip_sentry",
    """\
error_mode: ignore
trace_statements:
  - context: span
    statements:
      - >-
        delete_matching_keys(attributes,
        "^sentry\\\\.(sample_rate|parent_is_remote|parent_span_already_sent|custom_span_name)$$")
""",
)
_TAIL_SAMPLING = Component(
    "tail_sampling",
    """\
# Errors and slow traces always; of the rest OTELCOL_KEEP_PERCENT. Needs all spans of a trace in ONE Collector:
# with more than one take scale-out/. Let the programs send everything (OTEL_SENTRY_OTLP_SAMPLE_RATE=1).
decision_wait: "${env:OTELCOL_DECISION_WAIT:-10s}"
num_traces: ${env:OTELCOL_NUM_TRACES:-50000}
decision_cache: {sampled_cache_size: 100000, non_sampled_cache_size: 100000}
policies:
  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
  - {name: slow, type: latency, latency: {threshold_ms: 2000}}
  - {name: rest, type: probabilistic, probabilistic: {sampling_percentage: "${env:OTELCOL_KEEP_PERCENT:-10}"}}
""",
)
_SPAN_METRICS = Component(
    "span_metrics",
    """\
# Of ALL spans, before sampling: traces_span_metrics_calls_total and traces_span_metrics_duration_seconds.
histogram:
  unit: s
  explicit: {buckets: [5ms, 10ms, 25ms, 50ms, 100ms, 250ms, 500ms, 1s, 2s, 5s, 10s, 30s]}
dimensions:
  - {name: http.request.method}
  - {name: http.response.status_code}
  - {name: http.route}
  - {name: messaging.destination.name}
  - {name: db.system.name}
  - {name: deployment.environment.name}
exemplars: {enabled: true}
aggregation_cardinality_limit: 20000
metrics_expiration: 10m
metrics_flush_interval: "${env:OTELCOL_FLUSH:-15s}"
""",
)
PROCESSORS = (_LIMITER, _TRANSFORM, _REDACTION, _TAIL_SAMPLING, _STRIP)
CONNECTORS = (
    _SPAN_METRICS,
    *(Component(name, "{}\n") for name in ("forward/kept", "forward/stripped", "forward/others")),
)
#: The exporters that may see `CARRIER_ATTRIBUTES`.
FOR_SENTRY = frozenset({"otlp_http/sentry"})


class Backend(NamedTuple):
    """Exporters, and which of them get which signal. *sampled*: only the traces that tail sampling keeps."""

    exporters: tuple[Component, ...]
    traces: tuple[str, ...] = ()
    sampled: bool = False
    metrics: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()


KNOWN: Mapping[str, Backend] = {
    "sentry": Backend(
        (
            Component(
                "otlp_http/sentry",
                "# SENTRY_OTLP: https://oORG.ingest.sentry.io/api/PROJECT/integration/otlp (project settings, OTLP).\n"
                'traces_endpoint: "${env:SENTRY_OTLP}/v1/traces"\n'
                'logs_endpoint: "${env:SENTRY_OTLP}/v1/logs"\n'
                'headers: {x-sentry-auth: "sentry sentry_key=${env:SENTRY_PUBLIC_KEY}"}\n'
                "compression: gzip\n" + _QUEUE,
            ),
        ),
        traces=("otlp_http/sentry",),
        sampled=True,
        logs=("otlp_http/sentry",),
    ),
    "datadog": Backend(
        (
            Component(
                "otlp_http/datadog",
                "# A Datadog Agent with its OTLP receiver on. It gets every span: it counts before it samples.\n"
                'endpoint: "${env:DATADOG_OTLP:-http://datadog-agent:4318}"\n' + _QUEUE,
            ),
        ),
        traces=("otlp_http/datadog",),
        metrics=("otlp_http/datadog",),
        logs=("otlp_http/datadog",),
    ),
    "grafana": Backend(
        (
            Component(
                "otlp_grpc/tempo",
                'endpoint: "${env:TEMPO_OTLP:-tempo:4317}"\ntls: {insecure: "${env:TEMPO_INSECURE:-false}"}\n' + _QUEUE,
            ),
            Component("otlp_http/loki", 'endpoint: "${env:LOKI_OTLP:-http://loki:3100/otlp}"\n' + _QUEUE),
            Component(
                "prometheus_remote_write/mimir",
                'endpoint: "${env:MIMIR_WRITE:-http://mimir:9009/api/v1/push}"\n'
                "target_info: {enabled: true}\n"
                "resource_to_telemetry_conversion: {enabled: false}\n" + _RETRY,
            ),
        ),
        traces=("otlp_grpc/tempo",),
        sampled=True,
        metrics=("prometheus_remote_write/mimir",),
        logs=("otlp_http/loki",),
    ),
    "prometheus": Backend(
        (
            Component(
                "prometheus",
                "# Prometheus scrapes this; collector-config/generated has its rules.\n"
                'endpoint: "${env:OTELCOL_PROMETHEUS:-127.0.0.1:8889}"\n'
                "enable_open_metrics: true\n"
                "metric_expiration: 10m\n",
            ),
        ),
        metrics=("prometheus",),
    ),
    "local": Backend(
        (
            Component("debug", "verbosity: normal\n"),
            Component(
                "file",
                'path: "${env:OTELCOL_FILE:-./otelcol.json}"\n'
                "rotation: {max_megabytes: 100, max_backups: 2}\nflush_interval: 200ms\n",
            ),
        ),
        traces=("debug", "file"),
        metrics=("debug", "file"),
        logs=("debug", "file"),
    ),
}

AGENT = Backend((_KAFKA_EXPORTER,), traces=("kafka",), metrics=("kafka",), logs=("kafka",))
