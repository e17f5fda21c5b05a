"""What a span means to Sentry: an ordered table of (predicate, rule); the first that holds speaks.

The order is deliberate: messaging before HTTP (SQS and Pub/Sub speak HTTP), databases before HTTP and RPC
(Elasticsearch carries `http.request.method` by convention, DynamoDB `rpc.system`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from opentelemetry.trace import SpanKind

from otel_sentry.convention.naming import MAX_NAME, cut, django_route, first_word, joined
from otel_sentry.convention.origin import WEB
from otel_sentry.privacy import scrub_path, scrub_statement, strip_url


class Meaning(NamedTuple):
    """What a rule says. *description* None: no text of its own; *op* None: Relay fills in `default`."""

    op: str | None
    description: str | None
    name: str
    source: str


class View:
    """One span as the rules see it: `data` has canonical names and may be completed by the rule."""

    __slots__ = ("data", "folded", "is_root", "kind", "library", "name", "style")

    def __init__(
        self,
        name: str,
        kind: SpanKind | None,
        data: dict[str, Any],
        folded: Mapping[str, Any],
        library: str,
        is_root: bool,
        style: str,
    ) -> None:
        self.name = name
        self.kind = kind
        self.data = data
        self.folded = folded
        self.library = library
        self.is_root = is_root
        self.style = style


# HTTP


def _is_http_server(view: View) -> bool:
    if "http.request.method" not in view.data:
        return False
    return view.kind is SpanKind.SERVER or (view.is_root and view.kind is SpanKind.INTERNAL and view.library in WEB)


def _http_server(view: View) -> Meaning:
    data = view.data
    method = str(data["http.request.method"])
    path = data.get("url.path")
    # sentry-python names Django's transactions without the method.
    bare = view.style == "sentry" and view.library in ("django", "")
    route = _route_of(view, method, path)
    if route is not None:
        route = django_route(route, view.style if bare else "otel")
        text = cut(route if bare else f"{method} {route}", MAX_NAME)
        return Meaning("http.server", text, text, "route")
    if isinstance(path, str) and path:
        if path == "/":
            text, source = "/", "route"
        else:
            text, source = scrub_path(path), "url"
        text = cut(text if bare else f"{method} {text}", MAX_NAME)
        return Meaning("http.server", text, text, source)
    return Meaning("http.server", view.name, view.name, "custom")


def _route_of(view: View, method: str, path: Any) -> str | None:
    """`http.route`, or the route in the span's name: contrib's Django puts it there first."""
    route = view.data.get("http.route")
    if isinstance(route, str) and route:
        return route
    prefix, _, rest = view.name.partition(" ")
    if prefix != method or not rest or path == "/" or "://" in rest:
        return None
    if not rest.startswith("/"):
        return rest
    return rest if isinstance(path, str) and rest != path and any(mark in rest for mark in "{<(") else None


def _http_client(view: View) -> Meaning:
    data = view.data
    if view.kind is SpanKind.INTERNAL:
        if view.library in WEB:
            # Django below a WSGI or ASGI span: a second http.server would count the request twice.
            return Meaning("middleware", view.name, view.name, "custom")
        if not view.library:
            return Meaning("http", view.name, view.name, "custom")
    op = "http.client" if view.kind is SpanKind.CLIENT else "http"
    if data.get("sentry.http.prefetch"):
        op += ".prefetch"
    method = str(data["http.request.method"])
    if isinstance(template := data.get("url.template") or data.get("http.route"), str):
        text = cut(f"{method} {template}", MAX_NAME)
        return Meaning(op, text, text, "route")
    full = data.get("url.full")
    if not isinstance(full, str):
        return Meaning(op, view.name, view.name, "custom")
    text = f"{method} {cut(scrub_path(strip_url(full)), 2048)}"
    return Meaning(op, text, cut(text, MAX_NAME), "url")


def _graphql(view: View) -> Meaning:
    kind = str(view.data["graphql.operation.type"])
    name = view.data.get("graphql.operation.name")
    text = cut(f"{kind} {name}" if name else kind, MAX_NAME)
    op = f"graphql.{kind}" if kind in ("query", "mutation", "subscription") else "graphql"
    return Meaning(op, text, text, "route")


# Queues

_QUEUE_OPS = {
    "publish": "queue.publish",
    "send": "queue.publish",
    "create": "queue.create",
    "receive": "queue.receive",
    "process": "queue.process",
    "deliver": "queue.process",
    "settle": "queue.settle",
    "run": "queue.process",
    "apply_async": "queue.publish",
}
_CELERY_PREFIXES = ("run/", "apply_async/")
_MESSAGE_KINDS = (SpanKind.PRODUCER, SpanKind.CONSUMER)


def _is_celery(view: View) -> bool:
    if "celery.action" in view.folded:
        return True
    if view.kind not in _MESSAGE_KINDS or not view.name.startswith(_CELERY_PREFIXES):
        return False
    # At the start only the name is there: contrib sets the attributes of a run at its end.
    return view.library == "celery" or (not view.library and "messaging.system" not in view.data)


def _celery(view: View) -> Meaning:
    data, folded = view.data, view.folded
    action, _, rest = view.name.partition("/")
    action = str(folded.get("celery.action", action))
    task = str(data.get("celery.task_name") or rest or view.name)
    op = _QUEUE_OPS.get(action, "queue.process" if view.kind is SpanKind.CONSUMER else "queue.publish")
    data.setdefault("messaging.system", "celery")
    data["messaging.operation.type"] = op.rpartition(".")[2]
    _celery_destination(data, folded)
    if op == "queue.process":
        retries = folded.get("celery.retries")
        data.setdefault("messaging.message.retry.count", retries if isinstance(retries, int) else 0)
    text = cut(task, MAX_NAME)
    return Meaning(op, text, text, "task")


def _celery_destination(data: dict[str, Any], folded: Mapping[str, Any]) -> None:
    """The queue's name: the routing key says it, but only on the default exchange (sentry-python's rule)."""
    delivery = folded.get("celery.delivery_info")
    queue = folded.get("celery.queue")
    named_exchange = isinstance(delivery, str) and "'exchange'" in delivery and "'exchange': ''" not in delivery
    if queue and (named_exchange or "messaging.destination.name" not in data):
        data["messaging.destination.name"] = queue
    elif "celery.routing_key" in folded:
        data.setdefault("messaging.destination.name", folded["celery.routing_key"])


def _is_queue(view: View) -> bool:
    if view.kind in _MESSAGE_KINDS:
        return True
    return "messaging.system" in view.data and (
        "messaging.operation.type" in view.data or "messaging.operation.name" in view.data
    )


def _queue(view: View) -> Meaning:
    data = view.data
    operation = data.get("messaging.operation.type", data.get("messaging.operation.name"))
    op = _QUEUE_OPS.get(str(operation))
    if op is None:
        op = "queue.process" if view.kind is SpanKind.CONSUMER else "queue.publish"
    text = cut(str(data.get("messaging.destination.name") or view.name), MAX_NAME)
    return Meaning(op, text, text, "task")


# Stores

_CACHE_OPS = {
    **dict.fromkeys(("GET", "MGET", "GETEX"), "cache.get"),
    **dict.fromkeys(("SET", "SETEX", "PSETEX", "SETNX", "MSET"), "cache.put"),
    **dict.fromkeys(("DEL", "UNLINK"), "cache.remove"),
    **dict.fromkeys(("FLUSHDB", "FLUSHALL"), "cache.flush"),
}
_KEY_VALUE = frozenset(("redis", "memcached", "valkey"))


def _cache(view: View) -> Meaning:
    operation = str(view.data.get("db.operation.name") or view.name).upper()
    text = joined(view.data.get("cache.key")) or view.name
    return Meaning(_CACHE_OPS.get(operation, "cache"), text, cut(text, MAX_NAME), "task")


def _db(view: View) -> Meaning:
    data = view.data
    system = str(data["db.system"])
    key_value = system in _KEY_VALUE
    # The text is the description; as data too it would double the largest part of a segment.
    raw = data.pop("db.query.text", None)
    text = scrub_statement(raw, system) if isinstance(raw, (str, bytes)) and raw else ""
    if "db.operation.name" not in data and (operation := _operation(view, text, key_value)):
        data["db.operation.name"] = operation
    elif key_value and isinstance(data.get("db.operation.name"), str):
        data["db.operation.name"] = data["db.operation.name"].upper()
    text = cut(text or view.name)
    return Meaning("db.redis" if system in ("redis", "valkey") else "db", text, cut(text, MAX_NAME), "task")


def _operation(view: View, text: str, key_value: bool) -> str:
    if key_value and ("db.redis.pipeline_length" in view.data or "\n" in text):
        return "PIPELINE"
    return first_word(text or view.name)


# The rest


def _rpc(view: View) -> Meaning:
    service, method = view.data.get("rpc.service"), view.data.get("rpc.method")
    text = cut(f"{service}/{method}" if service and method else view.name, MAX_NAME)
    return Meaning("rpc", text, text, "route")


_CLOUDS = {"aws": "function.aws", "gcp": "function.gcp", "azure": "function.azure"}


def _function(view: View) -> Meaning:
    data = view.data
    names = ("faas.invoked_provider", "cloud.provider", "cloud.platform")
    provider = next((str(data[name]) for name in names if data.get(name)), "")
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


_LIBRARY_OPS = {"jinja2": "template.render", "asyncio": "function"}


def _fallback(view: View) -> Meaning:
    return Meaning(_LIBRARY_OPS.get(view.library), view.name, view.name, "custom")


#: name, predicate, rule; the first whose predicate holds is asked.
FAMILIES: tuple[tuple[str, Callable[[View], bool], Callable[[View], Meaning]], ...] = (
    ("http.server", _is_http_server, _http_server),
    ("cache", lambda view: "cache.key" in view.data, _cache),
    ("celery", _is_celery, _celery),
    ("queue", _is_queue, _queue),
    ("gen_ai", lambda view: "gen_ai.provider.name" in view.data or "gen_ai.system" in view.data, _gen_ai),
    ("graphql", lambda view: "graphql.operation.type" in view.data, _graphql),
    ("db", lambda view: "db.system" in view.data, _db),
    ("http.client", lambda view: "http.request.method" in view.data, _http_client),
    ("rpc", lambda view: "rpc.system" in view.data or "rpc.service" in view.data, _rpc),
    ("faas", lambda view: "faas.trigger" in view.data or "faas.invocation_id" in view.data, _function),
    ("fallback", lambda view: True, _fallback),
)


def meaning_of(view: View) -> Meaning:
    """Ask the first family that the span belongs to."""
    for _, predicate, rule in FAMILIES:
        if predicate(view):
            return rule(view)
    return _fallback(view)
