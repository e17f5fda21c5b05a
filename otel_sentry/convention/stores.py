"""Databases, key-value stores, caches and object stores."""

from __future__ import annotations

import re

from otel_sentry.convention.naming import MAX_NAME, cut, first_word, joined
from otel_sentry.convention.view import Meaning, View
from otel_sentry.privacy import scrub_statement, scrub_text

#: The ops of Sentry's Caches module, by Redis command.
CACHE_OPS = {
    **dict.fromkeys(("GET", "MGET", "GETEX"), "cache.get"),
    **dict.fromkeys(("SET", "SETEX", "PSETEX", "SETNX", "MSET"), "cache.put"),
    **dict.fromkeys(("DEL", "UNLINK"), "cache.remove"),
    **dict.fromkeys(("FLUSHDB", "FLUSHALL"), "cache.flush"),
}
_CACHE_NAMES = frozenset(CACHE_OPS.values())
_KEY_VALUE = frozenset(("redis", "memcached", "valkey"))


def is_cache(view: View) -> bool:
    """Our own cache spans, whatever names keys, and what the user calls one."""
    return (
        view.library == "cache"
        or "cache.key" in view.data
        or (bool(view.folded) and str(view.folded.get("sentry.op", "")).startswith("cache."))
    )


def cache(view: View) -> Meaning:
    """The keys are the description: Sentry's Caches module groups by them."""
    if view.name in _CACHE_NAMES:
        op = view.name
    else:
        op = CACHE_OPS.get(str(view.data.get("db.operation.name") or view.name).upper(), "cache")
    text = scrub_text(joined(view.data.get("cache.key"))) or view.name
    return Meaning(op, text, cut(text, MAX_NAME), "task")


def is_db(view: View) -> bool:
    """Asked before HTTP and RPC: Elasticsearch and DynamoDB carry their attributes as well."""
    return "db.system" in view.data


def db(view: View) -> Meaning:
    """The statement without its literals; the Queries module groups by it."""
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
    summary = data.get("db.query.summary")
    text = cut(text or (summary if isinstance(summary, str) and summary else view.name))
    return Meaning("db.redis" if system in ("redis", "valkey") else "db", text, cut(text, MAX_NAME), "task")


def _operation(view: View, text: str, key_value: bool) -> str:
    if key_value and ("db.redis.pipeline_length" in view.data or "\n" in text):
        return "PIPELINE"
    return first_word(text or view.name)


_OBJECT_CALL = re.compile(r"(Put|Get|Delete|Copy|Head|List)Objects?(V2)?\Z")


def is_aws(view: View) -> bool:
    """A call of an AWS API that is neither a message nor a query."""
    return view.data.get("rpc.system") == "aws-api"


def aws(view: View) -> Meaning:
    """S3's objects have ops of their own (`object.get`); every other call is an outgoing request."""
    data = view.data
    method = _OBJECT_CALL.match(str(data.get("rpc.method"))) if data.get("rpc.service") == "S3" else None
    op = f"object.{method.group(1).lower()}" if method is not None else "http.client"
    text = cut(view.name, MAX_NAME)
    return Meaning(op, text, text, "custom")
