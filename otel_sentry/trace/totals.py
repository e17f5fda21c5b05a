"""Calls of one segment, counted as they end: databases, caches, other services, tasks published.

Fed by the pipeline with every finished span, of unsampled segments too, on the application's own threads: a span that
is no call costs one look-up. What is read from it: the root's ``performance.*`` attributes, ``contexts.performance``
of errors, the slow calls and the repeated queries (N+1).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from otel_sentry import guard
from otel_sentry.copies import copied
from otel_sentry.trace.repeats import Repeats
from otel_sentry.trace.segment import segment_of
from otel_sentry.trace.slow import Limits, limits_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.settings import Settings
    from otel_sentry.trace.segment import Segment

#: What is counted; the index of each is its place in `Totals.count`.
KINDS = ("database", "cache", "external", "publish")
DATABASE, CACHE, EXTERNAL, PUBLISH = range(4)
#: On slow spans and on roots.
SLOW = "slow_operation"
#: How often the most repeated query of a root ran, and its text without values.
REPEATS = "performance.n_plus_one"
REPEATED_QUERY = "performance.n_plus_one_query"
_PREFIX = "performance."

# Looked up once: on Python 3.11 a member of an enum costs more than all else here.
_CLIENT, _PRODUCER, _INTERNAL = SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.INTERNAL
_CONTRIB = "opentelemetry.instrumentation."
_CACHES = frozenset({"redis", "memcached", "valkey"})
#: Scope -> what its client spans are. Of other scopes the attributes tell.
_OF_SCOPE = {
    **{f"{_CONTRIB}{name}": DATABASE for name in ("psycopg", "psycopg2", "asyncpg", "aiopg", "sqlite3", "sqlalchemy")},
    **{f"{_CONTRIB}{name}": DATABASE for name in ("mysql", "mysqlclient", "pymysql", "pymssql", "pymongo")},
    **{f"{_CONTRIB}{name}": CACHE for name in ("redis", "pymemcache")},
    **{f"{_CONTRIB}{name}": EXTERNAL for name in ("requests", "urllib", "urllib3", "httpx", "aiohttp_client")},
}
#: Our own cache spans, whose kind is INTERNAL.
_CACHE_SCOPES = frozenset({"otel_sentry_django", "otel_sentry_redis"})
_SLOWEST = 3
_TEXT_KEYS = ("db.statement", "db.query.text")
_text_key = _TEXT_KEYS[0]

#: The thresholds in force (`use`).
limits = Limits()


def use(settings: Settings) -> None:
    """Put the thresholds of *settings* in force."""
    global limits
    limits = limits_of(settings)


class Totals:
    """What has ended so far below one local root. Changed without a lock, like the counters: no call happens between
    reading and writing."""

    __slots__ = ("count", "inner", "ns", "repeats", "slowest")

    def __init__(self) -> None:
        self.count = [0, 0, 0, 0]
        self.ns = [0, 0, 0, 0]
        #: Calls below one span that may itself turn out to be a call: [its id, kind, count, ns].
        self.inner = [0, 0, 0, 0]
        self.repeats: Repeats | None = None
        #: The slowest children of the root: (ns, span).
        self.slowest: list[tuple[int, ReadableSpan]] = []

    def call(self, kind: int, ns: int, span_id: int, parent_id: int) -> None:
        """Count one call. What it was made of (SQLAlchemy's span holds the driver's, a cache's the Redis command's) was
        counted before and counts no more."""
        inner = self.inner
        if inner[0] == span_id and (inner[1] == kind or inner[1] == CACHE):
            self.count[inner[1]] -= inner[2]
            self.ns[inner[1]] -= inner[3]
            inner[2] = inner[3] = 0
        self.count[kind] += 1
        self.ns[kind] += ns
        if inner[0] == parent_id and inner[1] == kind:
            inner[2] += 1
            inner[3] += ns
        else:
            self.inner = [parent_id, kind, 1, ns]

    def child(self, ns: int, span: ReadableSpan) -> None:
        """Remember a child of the root if it is one of the slowest."""
        slowest = self.slowest
        place = len(slowest)
        while place and ns > slowest[place - 1][0]:
            place -= 1
        if place < _SLOWEST:
            self.slowest = [*slowest[:place], (ns, span), *slowest[place : _SLOWEST - 1]]

    def fields(self) -> dict[str, Any]:
        """``database_calls``, ``database_time_ms`` and so on; what did not happen is left out."""
        found: dict[str, Any] = {}
        for kind, name in enumerate(KINDS):
            if self.count[kind] > 0:
                found[f"{name}_calls"] = self.count[kind]
                found[f"{name}_time_ms"] = round(self.ns[kind] / 1e6, 3)
        return found


def kind_of(span: ReadableSpan) -> int | None:
    """Which of `KINDS` a span is; None: no call."""
    kind = span.kind
    if kind is _CLIENT:
        scope = span.instrumentation_scope
        known = _OF_SCOPE.get(scope.name) if scope is not None else None
        return known if known is not None else _by_attributes(copied(span.attributes))
    if kind is _PRODUCER:
        return PUBLISH
    if kind is _INTERNAL and span.name.startswith("cache."):
        scope = span.instrumentation_scope
        return CACHE if scope is not None and scope.name in _CACHE_SCOPES else None
    return None


def _by_attributes(attributes: Mapping[str, Any]) -> int | None:
    system = attributes.get("db.system.name") or attributes.get("db.system")
    if system:
        return CACHE if system in _CACHES else DATABASE
    return EXTERNAL if "http.request.method" in attributes or "http.method" in attributes else None


def add(segment: Segment, span: ReadableSpan) -> str | None:
    """Count a finished span below the root.

    Returns:
        what is to be said of it: "query" or "external" (it was slow), "repeated" (one query too many); None: nothing.

    """
    kind = kind_of(span)
    parent = span.parent
    parent_id = parent.span_id if parent is not None else 0
    at_top = parent_id == segment.span_id
    if kind is None and not at_top:
        return None
    start = span.start_time or 0
    ns = (span.end_time or 0) - start
    found = segment.totals
    if found is None:
        found = segment.totals = Totals()
    if at_top:
        found.child(ns, span)
    if kind is None:
        return None
    found.call(kind, ns, span.context.span_id, parent_id)
    repeated = kind == DATABASE and limits.n_plus_one and _repeats(found, span, parent_id, start, ns)
    return _slow_call(kind, ns) or ("repeated" if repeated else None)


def _repeats(found: Totals, span: ReadableSpan, parent_id: int, start: int, ns: int) -> bool:
    text = _statement(span)
    if type(text) is not str:
        return False
    if found.repeats is None:
        found.repeats = Repeats()
    return found.repeats.add(parent_id, text, start, ns, limits.n_plus_one, limits.n_plus_one_time)


def _statement(span: ReadableSpan) -> Any:
    """The text of a query. Asked first for the name that the last one had it under: a copy of all would cost more."""
    global _text_key
    attributes = span.attributes or {}
    try:
        return attributes[_text_key]
    except KeyError:
        other = next(key for key in _TEXT_KEYS if key != _text_key)
        text = attributes.get(other)
        if text is not None:
            _text_key = other
        return text


def _slow_call(kind: int, ns: int) -> str | None:
    if ns < limits.shortest_call:
        return None
    if kind == DATABASE and ns >= limits.query:
        return "query"
    return "external" if kind == EXTERNAL and ns >= limits.external else None


def threshold(segment: Segment, root: Any) -> int | None:
    """From how many ns on *root* is slow; None: never (it is neither a request nor a task, nor named in a setting)."""
    if limits.patterns:
        named = limits.named(_names(segment, root))
        if named is not None:
            return named
    if root.kind is SpanKind.SERVER:
        return limits.request
    return limits.task if root.kind is SpanKind.CONSUMER else None


def _names(segment: Segment, root: Any) -> list[str]:
    """What the user's mapping may call a root: span name, route, task, business operation."""
    attributes = copied(root.attributes)
    route = str(attributes.get("http.route") or "")
    operation = getattr(segment.business, "operation", None) or attributes.get("business.operation")
    names = [root.name, route, str(attributes.get("celery.task_name") or ""), str(operation or "")]
    return [*names, f"/{route}"] if route and route[0] != "/" else names  # Django's routes have no slash in front


def is_slow(segment: Segment, root: Any, ns: int) -> bool:
    """Is (or was) *ns* too long for this root?"""
    if ns < limits.shortest_root:
        return False
    found = threshold(segment, root)
    return found is not None and ns >= found


def is_noticed(segment: Segment, root: Any) -> bool:
    """Is there something to be said of a root that has its end: was it slow, or did a query repeat in it?"""
    if is_slow(segment, root, (root.end_time or 0) - (root.start_time or 0)):
        return True
    return segment.totals is not None and worst(segment.totals) is not None


def so_far(segment: Segment) -> dict[str, Any]:
    """``contexts.performance`` of an error: ms so far, whether that is slow already, and the calls."""
    elapsed = time.monotonic() - segment.started
    fields: dict[str, Any] = {"response_time_ms": round(elapsed * 1000, 3)}
    root = segment.root or segment.live_root
    if root is not None:
        fields[SLOW] = is_slow(segment, root, int(elapsed * 1e9))
    if segment.totals is not None:
        fields.update(segment.totals.fields())
    return fields


def of_root(segment: Segment, root: Any, ns: int) -> dict[str, Any]:
    """The attributes of a root that took *ns*."""
    found: dict[str, Any] = {}
    if root.kind is SpanKind.SERVER or root.kind is SpanKind.CONSUMER:
        found["performance.response_time_ms"] = round(ns / 1e6, 3)
    if is_slow(segment, root, ns):
        found[SLOW] = True
    totals = segment.totals
    if totals is not None:
        for name, value in totals.fields().items():
            found[_PREFIX + name] = value
        repeated = worst(totals)
        if repeated is not None:
            found[REPEATED_QUERY], found[REPEATS] = repeated
    return found


def worst(totals: Totals) -> tuple[str, int] | None:
    """The query that ran most often, without its values, and how often; None where none ran too often."""
    enough = totals.count[DATABASE] >= limits.n_plus_one > 0 and totals.ns[DATABASE] >= limits.n_plus_one_time
    if totals.repeats is None or not enough:
        return None
    return totals.repeats.worst(limits.n_plus_one, limits.n_plus_one_time)


def before_end(span: Any, end_time: int | None = None) -> None:
    """A live span of our provider is about to end: what is known of it is put on it, so that every backend sees it."""
    end = end_time if isinstance(end_time, int) else time.time_ns()
    ns = end - (span.start_time or 0)
    parent = span.parent
    if parent is None or parent.is_remote:
        with guard.block("totals of a root"):
            segment = segment_of(span.get_span_context())
            if segment is not None:
                found = of_root(segment, span, ns)
                segment.summed = _has_room(span, len(found))
                if segment.summed:
                    span.set_attributes(found)
    elif ns >= limits.shortest_call:
        with guard.block("slow call"):
            kind = kind_of(span)
            if kind is not None and _slow_call(kind, ns):
                span.set_attribute(SLOW, True)


def _has_room(span: Any, number: int) -> bool:
    """Past its limit the SDK drops the oldest attributes: method, route. Then only Sentry gets ours (`completed`)."""
    most = getattr(getattr(span, "_limits", None), "max_span_attributes", None)
    return most is None or len(span.attributes or ()) + number <= most


def completed(segment: Segment, root: ReadableSpan) -> ReadableSpan:
    """The finished root with its attributes: itself where `before_end` has seen to it (spans of our provider)."""
    if segment.summed:
        return root
    found = of_root(segment, root, (root.end_time or 0) - (root.start_time or 0))
    return _with(root, found) if found else root


def marked(span: ReadableSpan) -> ReadableSpan:
    """A slow span, with the mark that says so."""
    return _with(span, {SLOW: True})


def _with(span: ReadableSpan, more: dict[str, Any]) -> ReadableSpan:
    from otel_sentry.trace.rules import with_changes

    known = copied(span.attributes)
    if all(key in known for key in more):
        return span
    return with_changes(span, attributes={**known, **more})
