"""What a span means to Sentry: an ordered table of (predicate, rule); the first that holds speaks.

The order is deliberate: messaging before HTTP (SQS and Pub/Sub speak HTTP), databases before HTTP and RPC
(Elasticsearch carries `http.request.method` by convention, DynamoDB `rpc.system`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from opentelemetry.trace import SpanKind

from otel_sentry.convention import http, queues, stores
from otel_sentry.convention.naming import MAX_NAME, cut
from otel_sentry.convention.view import Meaning, View

_LITERAL = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\.)*"|\b\d[\d.]*\b')


def _graphql(view: View) -> Meaning:
    data = view.data
    kind = str(data["graphql.operation.type"])
    name = data.get("graphql.operation.name")
    if isinstance(document := data.get("graphql.document"), str):
        data["graphql.document"] = _LITERAL.sub("?", cut(document))  # its literals are what people typed
    text = cut(f"{kind} {name}" if name else kind, MAX_NAME)
    op = f"graphql.{kind}" if kind in ("query", "mutation", "subscription") else "graphql"
    return Meaning(op, text, text, "route")


def _rpc(view: View) -> Meaning:
    """`service/method`; the newest conventions have both in `rpc.method`."""
    service, method = view.data.get("rpc.service"), view.data.get("rpc.method")
    if isinstance(method, str) and "/" in method:
        text = method.strip("/")
    else:
        text = f"{service}/{method}" if service and method else view.name
    text = cut(text, MAX_NAME)
    return Meaning("rpc", text, text, "route")


_CLOUDS = {"aws": "function.aws", "gcp": "function.gcp", "azure": "function.azure"}


def _function(view: View) -> Meaning:
    data = view.data
    names = ("faas.invoked_provider", "cloud.provider", "cloud.platform")
    provider = next((str(data[name]) for name in names if data.get(name)), view.library)
    op = _CLOUDS.get(provider.partition("_")[0]) or str(data.get("faas.trigger") or "function")
    text = cut(str(data.get("faas.name") or view.name), MAX_NAME)
    return Meaning(op, text, text, "route")


def _gen_ai(view: View) -> Meaning:
    """Never the prompt: operation and model only."""
    data = view.data
    operation = str(data.get("gen_ai.operation.name") or "chat")
    subject = data.get("gen_ai.agent.name") or data.get("gen_ai.tool.name") or data.get("gen_ai.request.model")
    text = cut(f"{operation} {subject}" if subject else view.name, MAX_NAME)
    return Meaning(f"gen_ai.{operation}", text, text, "custom")


def _mcp(view: View) -> Meaning:
    data = view.data
    method = str(data["mcp.method.name"])
    subject = data.get("gen_ai.tool.name") or data.get("mcp.tool.name") or data.get("gen_ai.prompt.name")
    text = cut(f"{method} {subject}" if subject else method, MAX_NAME)
    return Meaning("mcp.server" if view.kind is SpanKind.SERVER else "mcp.client", text, text, "route")


_LIBRARY_OPS = {
    "jinja2": "template.render",
    "django_template": "template.render",
    "django_middleware": "middleware.django",
    "asyncio": "function",
}


def _fallback(view: View) -> Meaning:
    return Meaning(_LIBRARY_OPS.get(view.library), view.name, view.name, "custom")


class Family(NamedTuple):
    """One row of the table; *because* says in words when it holds."""

    name: str
    holds: Callable[[View], bool]
    rule: Callable[[View], Meaning]
    because: str


FALLBACK = Family("fallback", lambda view: True, _fallback, "no family's attributes are there")

#: The first row that holds is asked.
FAMILIES: tuple[Family, ...] = (
    Family("http.server", http.is_server, http.server, "a method, and kind SERVER (or the root span of a web scope)"),
    Family("cache", stores.is_cache, stores.cache, "cache.key, or a cache span of ours"),
    Family("celery", queues.is_celery, queues.celery, "celery.action, or contrib's span name"),
    Family("queue", queues.is_queue, queues.queue, "kind PRODUCER or CONSUMER, or a messaging system and operation"),
    Family("mcp", lambda view: "mcp.method.name" in view.data, _mcp, "mcp.method.name"),
    Family(
        "gen_ai",
        lambda view: "gen_ai.provider.name" in view.data or "gen_ai.system" in view.data,
        _gen_ai,
        "gen_ai.provider.name or gen_ai.system",
    ),
    Family("graphql", lambda view: "graphql.operation.type" in view.data, _graphql, "graphql.operation.type"),
    Family("db", stores.is_db, stores.db, "db.system.name or db.system"),
    Family("http.client", lambda view: "http.request.method" in view.data, http.client, "a method, and no server"),
    Family("aws", stores.is_aws, stores.aws, "rpc.system is aws-api"),
    Family("rpc", lambda view: "rpc.system" in view.data or "rpc.service" in view.data, _rpc, "rpc.system or service"),
    Family(
        "faas",
        lambda view: "faas.trigger" in view.data or "faas.invocation_id" in view.data,
        _function,
        "faas.trigger or faas.invocation_id",
    ),
    FALLBACK,
)


def family_of(view: View) -> Family:
    """The first family that the span belongs to."""
    for family in FAMILIES:
        if family.holds(view):
            return family
    return FALLBACK


def meaning_of(view: View) -> Meaning:
    """What the span's family says of it."""
    return family_of(view).rule(view)
