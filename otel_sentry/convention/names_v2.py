"""Span v2's words: names of low cardinality, and the attribute names and types of Sentry's conventions.

Source: getsentry/sentry-conventions, `model/name/*.json` (templates, the first that resolves) and `model/attributes`
(deprecations and types). A span v2's name groups; what a transaction's span says in its description is beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from otel_sentry.convention.naming import MAX_NAME, cut

#: Names that a transaction's product modules read -> the conventions' names, for spans on their own.
RENAMED = {
    "db.system": "db.system.name",
    "db.name": "db.namespace",
    "rpc.system": "rpc.system.name",
    "rpc.grpc.status_code": "rpc.response.status_code",
    "sentry.sample_rate": "sentry.client_sample_rate",
}
#: Facts about transactions that mean nothing on a span of its own.
OMITTED = frozenset({"sentry.parent_span_already_sent"})
_INTEGERS = frozenset(
    {
        "cache.item_size", "client.port", "code.line.number", "http.request.body.size", "http.request.resend_count",
        "http.response.body.size", "http.response.status_code", "messaging.batch.message_count",
        "messaging.message.body.size", "messaging.message.envelope.size", "messaging.message.receive.latency",
        "messaging.message.retry.count", "network.peer.port", "process.pid", "server.port", "thread.id",
    }
)  # fmt: skip
_TEXTS = frozenset(
    {
        "db.operation.name", "db.response.status_code", "error.type", "messaging.destination.name",
        "messaging.message.id", "rpc.response.status_code", "thread.name", "user.id",
    }
)  # fmt: skip
_LISTS = frozenset({"cache.key", "cache.tags"})

_HTTP = (
    "{http.request.method} {http.route}",
    "{http.request.method} {url.template}",
    "{http.request.method}",
    "HTTP",
)
_DB = (
    "{db.query.summary}",
    "{db.operation.name} {db.collection.name}",
    "{db.operation.name} {db.stored_procedure.name}",
    "{db.operation.name} {db.namespace}",
    "{db.operation.name} {server.address}:{server.port}",
    "{db.collection.name}",
    "{db.stored_procedure.name}",
    "{db.namespace}",
    "{server.address}:{server.port}",
    "{db.system.name}",
    "Database operation",
)
_MESSAGING = (
    "{messaging.operation.type} {messaging.destination.name}",
    "{messaging.operation.type} {server.address}:{server.port}",
    "{messaging.operation.type}",
    "Messaging",
)
_AGENT = ("{gen_ai.operation.name} {gen_ai.agent.name}", "{gen_ai.operation.name}", "Generative AI agent operation")
_MODEL = ("{gen_ai.operation.name} {gen_ai.request.model}", "{gen_ai.operation.name}", "Generative AI model operation")
#: The op, or its part before a dot -> templates; the longest that matches speaks.
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "http.server": _HTTP,
    "http.client": _HTTP,
    "http": _HTTP,
    "db": _DB,
    "queue": _MESSAGING,
    "topic": _MESSAGING,
    "graphql": ("GraphQL {graphql.operation.type}", "GraphQL Operation"),
    "gen_ai.invoke_agent": _AGENT,
    "gen_ai.handoff": _AGENT,
    "gen_ai": _MODEL,
}
_FIELD = re.compile(r"\{([^}]+)\}")


def name_v2(op: str | None, data: Mapping[str, Any], given: str | None = None) -> str:
    """The name of a span: *given* (the user's own) where there is one, else by its op's templates.

    *data* has the conventions' names (`attributes_v2`). The caches have no template and their keys are many: the op
    names them. An op without any template has no name of its own: the caller's choice, here an empty text.
    """
    if given:
        return cut(given, MAX_NAME)
    if not op:
        return ""
    if op.partition(".")[0] == "cache":
        return op
    for template in _templates(op):
        text = _resolved(template, data)
        if text is not None:
            return cut(text, MAX_NAME)
    return ""


def _templates(op: str) -> tuple[str, ...]:
    while op:
        if op in TEMPLATES:
            return TEMPLATES[op]
        op = op.rpartition(".")[0]
    return ()


def _resolved(template: str, data: Mapping[str, Any]) -> str | None:
    parts: list[str] = []
    end = 0
    for found in _FIELD.finditer(template):
        value = data.get(found[1])
        if value is None or value == "" or isinstance(value, (list, tuple, dict)):
            return None
        parts += (template[end : found.start()], str(value))
        end = found.end()
    return "".join((*parts, template[end:]))


def attributes_v2(data: Mapping[str, Any]) -> dict[str, Any]:
    """*data* under the conventions' names, known attributes in the conventions' types."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if value is None or key in OMITTED:
            continue
        key = RENAMED.get(key, key)
        if key in _INTEGERS:
            value = _whole(value)
        elif key in _TEXTS:
            value = str(value) if isinstance(value, (int, float)) else value
        elif key in _LISTS and isinstance(value, str):
            value = [value]
        found[key] = value
    return found


def _whole(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return round(value)
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return value
