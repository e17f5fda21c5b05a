"""One name for each meaning: legacy, stable and duplicated semantic conventions become the same dictionary.

Source of the table: OpenTelemetry's HTTP, database, messaging, RPC and code conventions, before and after
their stabilisation. Stable names win when both are there. Two exceptions that Sentry's product reads:
`db.system` and `db.name` (Queries module) stand for `db.system.name` and `db.namespace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind

from otel_sentry.copies import copied

#: legacy name -> the name used here. A stable attribute that is there too wins.
LEGACY = {
    "http.method": "http.request.method",
    "http.request_method": "http.request.method",
    "http.status_code": "http.response.status_code",
    "http.scheme": "url.scheme",
    "http.flavor": "network.protocol.version",
    "http.user_agent": "user_agent.original",
    "http.client_ip": "client.address",
    "http.request_content_length": "http.request.body.size",
    "http.response_content_length": "http.response.body.size",
    "http.resend_count": "http.request.resend_count",
    "net.protocol.name": "network.protocol.name",
    "net.protocol.version": "network.protocol.version",
    "net.sock.peer.addr": "network.peer.address",
    "net.sock.peer.port": "network.peer.port",
    "db.system": "db.system",
    "db.name": "db.name",
    "db.statement": "db.query.text",
    "db.operation": "db.operation.name",
    "redis.command": "db.operation.name",
    "db.sql.table": "db.collection.name",
    "db.mongodb.collection": "db.collection.name",
    "db.cassandra.table": "db.collection.name",
    "messaging.destination": "messaging.destination.name",
    "messaging.destination.template": "messaging.destination.name",
    "messaging.kafka.topic": "messaging.destination.name",
    "messaging.message_id": "messaging.message.id",
    "messaging.id": "messaging.message.id",
    "messaging.conversation_id": "messaging.message.conversation_id",
    "messaging.message_payload_size_bytes": "messaging.message.body.size",
    "messaging.message.payload_size_bytes": "messaging.message.body.size",
    "messaging.operation": "messaging.operation.type",
    "code.filepath": "code.file.path",
    "code.lineno": "code.line.number",
    "enduser.id": "user.id",
    "enduser.username": "user.name",
}
#: stable name -> the name used here, which wins over the legacy ones.
STABLE = {
    "db.system.name": "db.system",
    "db.namespace": "db.name",
    "rpc.system.name": "rpc.system",
}
#: Read, and folded into another attribute or a field of the span: they never appear as data.
FOLDED = frozenset(
    {
        "http.url",
        "http.target",
        "http.host",
        "http.request.method_original",
        "net.host.name",
        "net.host.port",
        "net.peer.name",
        "net.peer.port",
        "net.peer.ip",
        "net.transport",
        "code.function",
        "code.namespace",
        "celery.action",
        "celery.retries",
        "celery.queue",
        "celery.routing_key",
        "celery.delivery_info",
        "sentry.op",
        "sentry.description",
        "sentry.name",
        "sentry.custom_span_name",
        "sentry.source",
        "sentry.span.source",
        "sentry.segment.name.source",
        "sentry.origin",
        "sentry.status",
        "sentry.graphql.operation",
    }
)
#: Carrier attributes, and what only the legacy conventions have and nobody reads: so all modes agree.
DROPPED = frozenset(
    {
        "sentry.sample_rate",
        "sentry.sampled",
        "sentry.parent_is_remote",
        "sentry.parentIsRemote",
        "sentry.parent_span_already_sent",
        "http.server_name",
        "net.host.ip",
        "db.user",
        "db.redis.database_index",
        "messaging.destination_kind",
        "process.command_args",
    }
)
# Headers go to event.request, filtered; a leading underscore marks an attribute as private (potel's rule).
_DROPPED_PREFIXES = ("http.request.header.", "http.response.header.", "_")

_KEEP = 0
_DROP = 1
_FOLD = 2
Step = int | tuple[str, bool]
_MAX_PLAN = 4096
_plan: dict[str, Step] = {}


def _learn(key: str) -> Step:
    """Decide once what becomes of attributes named *key*."""
    step: Step = _KEEP
    if key in STABLE:
        step = (STABLE[key], True)
    elif key in LEGACY:
        step = (LEGACY[key], False)
    elif key in FOLDED:
        step = _FOLD
    elif not key or key in DROPPED or key.startswith(_DROPPED_PREFIXES):
        step = _DROP
    if len(_plan) < _MAX_PLAN:
        _plan[key] = step
    return step


def canonical(attributes: Mapping[str, Any] | None, kind: SpanKind | None) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The attributes under one name per meaning, and the raw ones that are folded away (for the rules)."""
    data: dict[str, Any] = {}
    if not attributes:
        return data, _NOTHING
    folded: dict[str, Any] | None = None
    for key, value in copied(attributes).items():
        if value is None:
            continue
        step = _plan.get(key)
        if step is None:
            step = _learn(key)
        if step == _KEEP:
            data[key] = value
        elif type(step) is tuple:
            if step[1]:
                data[step[0]] = value
            else:
                data.setdefault(step[0], value)
        elif step == _FOLD:
            if folded is None:
                folded = {}
            folded[key] = value
    if folded is not None:
        _unfold(data, folded, kind)
    if "http.request.method" in data:
        _tidy_http(data, is_server_side(data, folded or _NOTHING, kind))
    elif type(data.get("server.port")) is not int and ("server.address" in data or "server.port" in data):
        _split_port(data)
    if "network.peer.address" in data and data["network.peer.address"] == data.get("server.address"):
        # What stable clients add and legacy ones can't: nothing new when it repeats the name.
        data.pop("network.peer.address", None)
        data.pop("network.peer.port", None)
    return data, folded or _NOTHING


_NOTHING: Mapping[str, Any] = {}
_SERVER_ONLY = ("http.target", "net.host.name", "http.host")


def is_server_side(data: Mapping[str, Any], folded: Mapping[str, Any], kind: SpanKind | None) -> bool:
    """Is this the receiving end? Django's span is INTERNAL when a WSGI or ASGI span is already open."""
    if kind is SpanKind.SERVER:
        return True
    return kind is SpanKind.INTERNAL and (
        "client.address" in data or "http.route" in data or any(name in folded for name in _SERVER_ONLY)
    )


def _unfold(data: dict[str, Any], folded: Mapping[str, Any], kind: SpanKind | None) -> None:
    get = folded.get
    if isinstance(transport := get("net.transport"), str):
        data.setdefault("network.transport", transport.removeprefix("ip_"))
    if (function := get("code.function")) is not None:
        namespace = get("code.namespace")
        data.setdefault("code.function.name", f"{namespace}.{function}" if namespace else function)
    server = is_server_side(data, folded, kind) and "http.request.method" in data
    if server:
        _take(data, "client.address", get("net.peer.ip") or get("net.peer.name"))
        _take(data, "client.port", get("net.peer.port"))
        _take(data, "server.address", get("net.host.name") or get("http.host"))
        _take(data, "server.port", get("net.host.port"))
    else:
        _take(data, "server.address", get("net.peer.name") or get("net.host.name") or get("http.host"))
        _take(data, "server.port", get("net.peer.port") or get("net.host.port"))
        _take(data, "network.peer.address", get("net.peer.ip"))
    if isinstance(target := get("http.target"), str):
        _take_target(data, target)
    if isinstance(url := get("http.url"), str):
        data.setdefault("url.full", url)
    if data.get("http.request.method") == "_OTHER":
        _take_first(data, "http.request.method", get("http.request.method_original"))


def _take(data: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        data.setdefault(name, value)


def _take_first(data: dict[str, Any], name: str, value: Any) -> None:
    if value:
        data[name] = value


def _take_target(data: dict[str, Any], target: str) -> None:
    path, _, fragment = target.partition("#")
    path, _, query = path.partition("?")
    if path:
        data.setdefault("url.path", path)
    if query:
        data.setdefault("url.query", query)
    if fragment:
        data.setdefault("url.fragment", fragment)


def _tidy_http(data: dict[str, Any], server: bool) -> None:
    status = number(data.get("http.response.status_code"))
    if status is not None:
        data["http.response.status_code"] = status
        if data.get("error.type") == str(status):
            del data["error.type"]
    if server:
        full = data.pop("url.full", None)
        if isinstance(full, str):
            _take_parts(data, full)
        _split_port(data)
        return
    if data.get("network.protocol.version") == "1.1":
        del data["network.protocol.version"]  # what legacy clients never say, and goes without saying
    if "url.full" not in data:
        _build_url(data)
    elif "server.address" not in data:
        _take_peer(data, data["url.full"])
    _split_port(data)


def _take_parts(data: dict[str, Any], full: str) -> None:
    """A server's own URL in parts: what the stable conventions ask for, and without user information."""
    try:
        parts = urlsplit(full)
        host, port = parts.hostname, parts.port
    except ValueError:
        return
    _take(data, "url.scheme", parts.scheme or None)
    if "server.address" not in data:
        _take(data, "server.address", host)
        _take(data, "server.port", port)
    _take(data, "url.path", parts.path or "/")
    _take(data, "url.query", parts.query or None)


def _take_peer(data: dict[str, Any], full: Any) -> None:
    try:
        parts = urlsplit(full) if isinstance(full, str) else None
        if parts is not None and parts.hostname:
            data["server.address"] = parts.hostname
            _take(data, "server.port", parts.port)
    except ValueError:
        pass


def _build_url(data: dict[str, Any]) -> None:
    host, scheme = data.get("server.address"), data.get("url.scheme")
    if not isinstance(host, str) or not scheme:
        return
    port = data.get("server.port")
    authority = f"{host}:{port}" if port and ":" not in host else host
    query = data.get("url.query")
    suffix = f"?{query}" if query else ""
    data["url.full"] = f"{scheme}://{authority}{data.get('url.path') or '/'}{suffix}"


def _split_port(data: dict[str, Any]) -> None:
    """`server.address` without port, `server.port` as a number (contrib's Django puts both in the first)."""
    address = data.get("server.address")
    if isinstance(address, str) and ":" in address:
        host, _, port = address.rpartition(":")
        if port.isdigit() and (":" not in host or host.endswith("]")):
            data["server.address"] = host
            data.setdefault("server.port", int(port))
    given = data.get("server.port")
    if given is not None and type(given) is not int:
        found = number(given)
        if found is None:
            del data["server.port"]
        else:
            data["server.port"] = found


def number(value: Any) -> int | None:
    """An int, or a string of digits as one (status codes come as both); None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, str) and len(value) <= 6 and value.isascii() and value.isdigit():
        return int(value)
    return None
