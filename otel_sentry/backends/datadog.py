"""What Datadog needs to be told: names of spans, ids in log lines, its own headers.

Its intake reads the span attributes ``operation.name``, ``resource.name`` and ``span.type`` first; without them it
works them out itself (datadog-agent, ``pkg/trace/otel/traceutil``, "V2"), in many versions by the former semantic
conventions only, so that a query by the stable ones ends as ``client.request``. The names here are those of its rules.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from otel_sentry import guard
from otel_sentry.convention.naming import cut

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_MAX_RESOURCE = 5000
_LOW_64 = (1 << 64) - 1
_TYPES = {
    "redis": "redis", "valkey": "redis", "memcached": "memcached", "mongodb": "mongodb", "cassandra": "cassandra",
    "elasticsearch": "elasticsearch", "opensearch": "opensearch",
    "postgresql": "sql", "mysql": "sql", "mariadb": "sql",
    "sqlite": "sql", "mssql": "sql", "microsoft.sql_server": "sql", "oracle": "sql", "oracle.db": "sql",
}  # fmt: skip


def names(span: ReadableSpan, attributes: Mapping[str, Any]) -> dict[str, str]:
    """``operation.name``, ``resource.name`` and ``span.type`` of a span with these (scrubbed) attributes."""
    operation, resource, kind = _http(span, attributes) or _database(span, attributes) or _rest(span, attributes)
    return {
        "operation.name": operation.lower(),
        "resource.name": cut(str(resource or span.name), _MAX_RESOURCE),
        "span.type": kind,
    }


_Names = tuple[str, Any, str]


def _http(span: ReadableSpan, attributes: Mapping[str, Any]) -> _Names | None:
    method = attributes.get("http.request.method") or attributes.get("http.method")
    if not method:
        return None
    if span.kind is SpanKind.SERVER:
        route = attributes.get("http.route")
        return "http.server.request", f"{method} {_rooted(route)}" if route else span.name, "web"
    if span.kind is SpanKind.CLIENT:
        host = attributes.get("server.address") or attributes.get("net.peer.name")
        return "http.client.request", f"{method} {host}" if host else method, "http"
    return None


def _rooted(route: object) -> str:
    return f"{route}" if str(route).startswith("/") else f"/{route}"


def _database(span: ReadableSpan, attributes: Mapping[str, Any]) -> _Names | None:
    system = attributes.get("db.system.name") or attributes.get("db.system")
    if not isinstance(system, str) or span.kind is not SpanKind.CLIENT:
        return None
    statement = attributes.get("db.query.text") or attributes.get("db.statement")
    return f"{system}.query", statement, _TYPES.get(system, "db")


def _rest(span: ReadableSpan, attributes: Mapping[str, Any]) -> _Names:
    kind = span.kind.name.lower()
    task = attributes.get("celery.task_name")
    system = "celery" if task else attributes.get("messaging.system")  # of a task that is its broker
    if system and span.kind in (SpanKind.PRODUCER, SpanKind.CONSUMER):
        done = "process" if span.kind is SpanKind.CONSUMER else "publish"
        target = task or attributes.get("messaging.destination.name") or attributes.get("messaging.destination")
        return f"{system}.{done}", target, "worker" if span.kind is SpanKind.CONSUMER else "custom"
    if system := attributes.get("rpc.system"):
        method = " ".join(str(attributes[key]) for key in ("rpc.method", "rpc.service") if attributes.get(key))
        return f"{system}.{kind}.request", method, "web" if span.kind is SpanKind.SERVER else "http"
    if span.kind in (SpanKind.SERVER, SpanKind.CLIENT):
        return f"{kind}.request", span.name, "web" if span.kind is SpanKind.SERVER else "http"
    return kind, span.name, "custom"


def log_ids(trace_id: int, span_id: int) -> dict[str, str]:
    """The ids as Datadog joins log lines to traces: decimal, of the trace id the lower 64 bits.

    Beside ``trace_id`` and ``span_id`` in hex, which its newer pipelines read too. Empty outside of a span.
    """
    if not trace_id:
        return {}
    return {"dd.trace_id": str(trace_id & _LOW_64), "dd.span_id": str(span_id)}


def warn_of_ddtrace() -> None:
    """One line where ddtrace instruments the same process: each would make spans of its own, in traces of its own."""
    active = any(name in sys.modules for name in ("ddtrace.auto", "ddtrace.bootstrap.sitecustomize"))
    patched = getattr(sys.modules.get("ddtrace._monkey"), "_PATCHED_MODULES", None)
    if active or patched:
        guard.say("ddtrace traces this process too: use one tracer (start it without ddtrace-run, or unset OTLP)")
