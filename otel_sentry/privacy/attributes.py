"""Span attributes and nested data: each key has its rule, each value goes through it."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping
from typing import Any

from otel_sentry.privacy.keys import MAX_CACHED_KEYS, MAX_CACHED_LENGTH, is_sensitive_key
from otel_sentry.privacy.sql import MAX_STATEMENT, scrub_json_query, scrub_redis, scrub_sql
from otel_sentry.privacy.tokens import FILTERED
from otel_sentry.privacy.urls import PERSONAL_HEADERS, scrub_path, scrub_query, scrub_url
from otel_sentry.privacy.values import scrub_text

MAX_DEPTH = 10
"""Levels of nested data; what is deeper is filtered."""
MAX_NODES = 20_000
"""Values in one event; the rest is filtered, so that a cyclic or huge structure ends."""

TEXT, FILTER, DROP, PERSONAL, URL, QUERY, PATH, STATEMENT, PEER, MAYBE_URL = range(10)

# The typed keys: what a semantic convention (or sentry_sdk's breadcrumb) says of the value.
_TYPED = {
    "url.full": URL,
    "url.original": URL,
    "http.url": URL,
    "http.target": URL,
    "http.referer": URL,
    "url": MAYBE_URL,
    "uri": MAYBE_URL,
    "href": MAYBE_URL,
    "referer": MAYBE_URL,
    "referrer": MAYBE_URL,
    "http.request.header.referer": URL,
    "http.response.header.location": URL,
    "url.query": QUERY,
    "http.query": QUERY,
    "query_string": QUERY,
    "url.fragment": QUERY,
    "http.fragment": QUERY,
    "url.path": PATH,
    "db.query.text": STATEMENT,
    "db.statement": STATEMENT,
    "db.statement.parameters": FILTER,
    "db.params": FILTER,
    "process.command_args": DROP,
    "process.command_line": DROP,
    "user.email": PERSONAL,
    "user.name": PERSONAL,
    "user.full_name": PERSONAL,
    "user.username": PERSONAL,
    "user.ip": PERSONAL,
    "user.ip_address": PERSONAL,
    "client.address": PERSONAL,
    "http.client_ip": PERSONAL,
    "client.socket.address": PERSONAL,
    "net.peer.ip": PEER,
    "net.sock.peer.addr": PEER,
    "network.peer.address": PEER,
}
_FILTERED_PREFIXES = (
    "db.query.parameter.",
    "db.operation.parameter.",
    "http.request.cookie.",
    "http.cookie.",
)
_HEADER_PREFIXES = (
    "http.request.header.",
    "http.response.header.",
    "rpc.grpc.request.metadata.",
    "rpc.grpc.response.metadata.",
)
_SERVER_MARKS = ("url.path", "http.target", "http.server_name", "rpc.system")
_KEY_VALUE_STORES = frozenset(("redis", "valkey", "memcached"))
_JSON_STORES = frozenset(("mongodb", "elasticsearch", "opensearch", "dynamodb", "couchdb", "cosmosdb"))
_MYSQL_LIKE = frozenset(("mysql", "mariadb", "hive", "clickhouse"))
_PLAIN = (
    bool,
    int,
    float,
    type(None),
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    decimal.Decimal,
)

_LONGEST_NUMBER = 10**13  # a card number has more digits

_rules: dict[str, int] = {}


def rule_of(key: str) -> int:
    """The rule for an attribute's key, cached."""
    known = _rules.get(key)
    if known is not None:
        return known
    found = _find_rule(key)
    if len(key) <= MAX_CACHED_LENGTH:
        if len(_rules) >= MAX_CACHED_KEYS:
            _rules.clear()
        _rules[key] = found
    return found


def forget() -> None:
    """Judge all names anew: the user's rules have changed."""
    _rules.clear()


def _find_rule(key: str) -> int:
    lower = key.lower()
    if lower in _TYPED:
        return _TYPED[lower]
    if lower.startswith("enduser."):
        return PERSONAL
    if lower.startswith(_FILTERED_PREFIXES):
        return FILTER
    for prefix in _HEADER_PREFIXES:
        if lower.startswith(prefix):
            name = lower[len(prefix) :].replace("_", "-")
            if is_sensitive_key(name):
                return FILTER
            return PERSONAL if name in PERSONAL_HEADERS else TEXT
    return FILTER if is_sensitive_key(key) else TEXT


def scrub(attributes: Mapping[str, Any], *, pii: bool = False) -> dict[str, Any]:
    """Span attributes to send: secrets `[Filtered]`, personal keys removed unless `pii`, texts by their type.

    The result is a new dict; tuples become lists. Values of a kind that attributes can't have are filtered.
    """
    walk = Walk(pii)
    system = attributes.get("db.system.name") or attributes.get("db.system")
    out: dict[str, Any] = {}
    for key, value in attributes.items():
        rule = rule_of(key)
        kind = type(value)
        if rule == TEXT and kind is str:
            out[key] = scrub_text(value, pii=pii)
        elif rule == TEXT and (kind is bool or kind is float or (kind is int and value < _LONGEST_NUMBER)):
            out[key] = value
        elif rule == DROP or (not pii and (rule == PERSONAL or (rule == PEER and _is_server(attributes)))):
            continue
        else:
            out[key] = walk.ruled(rule, value, system, 0)
    return out


def _is_server(attributes: Mapping[str, Any]) -> bool:
    # Of a server span the peer is a person; of a client span it is the database or another service.
    return any(mark in attributes for mark in _SERVER_MARKS)


def scrub_statement(value: str | bytes, system: object = None) -> str:
    """A database statement by `db.system.name`; unknown systems are taken for SQL."""
    name = system.lower() if isinstance(system, str) else ""
    if name in _KEY_VALUE_STORES:
        return scrub_redis(value)
    if name in _JSON_STORES:
        return scrub_json_query(value)
    return scrub_sql(value, mysql=name in _MYSQL_LIKE)


def _is_option(text: str) -> bool:
    return text[:1] == "-" and "=" not in text


class Walk:
    """One pass over nested data: depth and number of values are bounded, the original is never changed."""

    __slots__ = ("budget", "pii")

    def __init__(self, pii: bool) -> None:
        self.pii = pii
        self.budget = MAX_NODES

    def ruled(self, rule: int, value: Any, system: object, depth: int) -> Any:
        """`value` by the rule of its key."""
        if rule == FILTER:
            return value if value is None or value == "" or isinstance(value, bool) else FILTERED
        if isinstance(value, bytes) and rule != STATEMENT:
            value = value[:MAX_STATEMENT].decode("utf-8", "replace")
        if isinstance(value, (str, bytes)):
            return self._text(rule, value, system)
        if isinstance(value, (list, tuple)) and rule != TEXT:
            return [self.ruled(rule, item, system, depth + 1) for item in value] if depth < MAX_DEPTH else FILTERED
        return self.value(value, depth)

    def _text(self, rule: int, value: str | bytes, system: object) -> str:
        if rule == STATEMENT or isinstance(value, bytes):
            return scrub_statement(value, system)
        if rule == URL or (rule == MAYBE_URL and ("://" in value or "?" in value)):
            return scrub_url(value, pii=self.pii)
        if rule == QUERY:
            return scrub_query(value, pii=self.pii)
        if rule == PATH:
            return scrub_path(value, pii=self.pii)
        return scrub_text(value, pii=self.pii)

    def value(self, value: Any, depth: int = 0) -> Any:
        """Any value of an event. Objects of unknown kinds are filtered: their `repr` may run queries."""
        self.budget -= 1
        if isinstance(value, str):
            return scrub_text(value, pii=self.pii)
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and value >= _LONGEST_NUMBER:
            text = str(value) if value < 10**19 else ""
            return FILTERED if scrub_text(text, pii=self.pii) != text else value
        if isinstance(value, _PLAIN) or type(value).__name__ == "AnnotatedValue":
            return value
        if depth >= MAX_DEPTH or self.budget <= 0:
            return FILTERED
        if isinstance(value, Mapping):
            return self.mapping(value, depth + 1)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._items(value, depth + 1)
        if isinstance(value, (bytes, bytearray)):
            return scrub_text(bytes(value[:MAX_STATEMENT]).decode("utf-8", "replace"), pii=self.pii)
        return FILTERED

    def ruled_item(self, key: str, value: Any) -> Any:
        """One value under `key`, by that key's rule; a personal or dropped key gives None."""
        rule = rule_of(key)
        if rule == DROP or (rule == PERSONAL and not self.pii):
            return None
        return self.ruled(rule, value, None, 1)

    def mapping(self, mapping: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        """A dict by the rules of its keys; a key can be a secret itself (`{"bob@example.com": 3}`)."""
        out: dict[Any, Any] = {}
        self.budget -= len(mapping)
        system = mapping.get("db.system.name") or mapping.get("db.system")
        for key, value in mapping.items():
            if not isinstance(key, str):
                out[key if isinstance(key, _PLAIN) else FILTERED] = self.value(value, depth)
                continue
            rule = rule_of(key)
            if rule == DROP or (rule == PERSONAL and not self.pii):
                continue
            if type(value).__name__ == "AnnotatedValue":
                out[key] = value
                continue
            out[scrub_text(key, pii=self.pii)] = self.ruled(rule, value, system, depth)
        return out

    def _items(self, items: Any, depth: int) -> list[Any]:
        """A list; the word after `--password` is that option's value, and of a pair the first is the name."""
        out: list[Any] = []
        self.budget -= len(items)
        before: object = None
        for item in items:
            secret = isinstance(before, str) and _is_option(before.strip("'\"")) and is_sensitive_key(before)
            pair = isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str)
            if secret and isinstance(item, (str, bytes, int)):
                out.append(FILTERED)
            elif pair and rule_of(item[0]) == FILTER:
                out.append([item[0], FILTERED])
            else:
                out.append(self.value(item, depth))
            before = item
        return out
