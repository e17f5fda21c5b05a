"""Rules of the user: which segments are kept although sampling left them out, and which spans are noise.

Text in, plain data out; each parser raises ValueError with one line that says what was expected.
"""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_sentry import guard

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_UNITS_NS = {"ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_SLOW = re.compile(r"slow\s*>\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_NO_KEEP = "expected `error`, `slow>2s` or both, separated by commas"
_NO_RULE = "expected rules such as name=connect, op=db.redis or attr.http.route=/x (conditions of one rule joined by &)"


@dataclass(frozen=True)
class Keep:
    """`OTEL_SENTRY_KEEP`: keep segments that failed, and those that took longer than *slow_ns* nanoseconds.

    The weight stays honest: a segment that a rule wants is always sent, drawn or not, so that each of them (the drawn
    ones too) says sample rate 1 in its event and its envelope. What was told to other services stays the head's
    decision, and the loss that the sampler counted at the start is taken back.
    """

    error: bool = False
    slow_ns: int | None = None

    def wants(self, root: ReadableSpan, failed: bool) -> bool:
        """Is a segment with this finished *root* kept whole? *failed*: an unhandled error was reported from it."""
        if self.error and (failed or root.status.status_code.name == "ERROR"):
            return True
        return self.slow_ns is not None and (root.end_time or 0) - (root.start_time or 0) > self.slow_ns

    def __str__(self) -> str:
        slow = f"slow>{self.slow_ns / 1e9:g}s" if self.slow_ns is not None else ""
        return ",".join(part for part in ("error" if self.error else "", slow) if part)


def keep(text: str) -> Keep | None:
    """``error,slow>2s`` -> `Keep`; units ms, s, m, h. ``off`` and the like: None.

    Raises:
        ValueError: a part is neither ``error`` nor ``slow>`` with a duration.

    """
    error, slow_ns = False, None
    if text.strip().lower() in ("", "0", "off", "none", "false"):
        return None
    for part in (one.strip().lower() for one in text.split(",")):
        found = _SLOW.fullmatch(part)
        if found is not None:
            slow_ns = int(float(found.group(1)) * _UNITS_NS[found.group(2)])
        elif part == "error":
            error = True
        elif part:
            raise ValueError(f"{_NO_KEEP}; {part!r:.40} is neither")
    return Keep(error, slow_ns)


# Local roots that nobody wants, by default

#: The last part of a path that says "health check" whatever stands before it.
_HEALTH = re.compile(
    r"/(?:healthz?|healthy|_health|livez|readyz|pingz?|health[-_]?checks?|heartbeat)/?$"
    # These are words of real pages too: only as the whole path. (/status is too often a page of its own.)
    r"|^/(?:ready|readiness|live|liveness|alive|up)/?$"
    r"|^/health/(?:live|liveness|ready|readiness|startup)/?$"
)
_FILES = re.compile(r"^/static/|/(?:favicon\.ico|robots\.txt|apple-touch-icon[\w-]*\.png)$")
#: Beginnings of the user agents of load balancers and orchestrators.
_CHECKERS = (
    "kube-probe/", "ELB-HealthChecker/", "GoogleHC/", "GoogleStackdriverMonitoring-UptimeChecks",
    "Amazon-Route53-Health-Check-Service", "Consul Health Check", "Envoy/HC", "HealthCheck/1.0 (Azure)",
)  # fmt: skip


def is_noise(path: str, user_agent: object) -> bool:
    """A health check or a static file: a server root that is left out unless `OTEL_SENTRY_DEFAULT_IGNORES=0`."""
    if path and (_HEALTH.search(path) or _FILES.search(path)):
        return True
    return isinstance(user_agent, str) and user_agent.startswith(_CHECKERS)


# Spans below the root


class SpanRule(NamedTuple):
    """All conditions hold: the span's name, its Sentry operation, attributes; each a glob pattern."""

    name: re.Pattern[str] | None
    op: re.Pattern[str] | None
    attributes: tuple[tuple[str, re.Pattern[str]], ...]

    def matches(self, span: Any, described: Callable[[Any], Any]) -> bool:
        """Does it hold for *span*? *described* (its meaning for Sentry) is asked only where a condition needs it."""
        if self.name is not None and not self.name.match(span.name):
            return False
        if self.op is not None and not self.op.match(described(span).op or ""):
            return False
        for key, wanted in self.attributes:
            value = (span.attributes or {}).get(key)
            if value is None:
                value = described(span).data.get(key)
            if value is None or not wanted.match(str(value)):
                return False
        return True


def span_rules(text: str) -> tuple[str, ...]:
    """`OTEL_SENTRY_IGNORE_SPANS` as its rules, checked; `compiled` makes them usable.

    Raises:
        ValueError: one is no rule.

    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for one in found:
        _rule(one)
    return found


def compiled(texts: Iterable[str]) -> tuple[SpanRule, ...]:
    """Rules of `span_rules`; what is none (a list given to `configure` is not checked before) is said, and left out."""
    made = []
    for text in texts:
        try:
            made.append(_rule(str(text)))
        except ValueError as exc:
            guard.say_once(f"ignore_spans:{text}", f"ignore_spans: {exc}; it is left out")
    return tuple(made)


def _rule(text: str) -> SpanRule:
    name = op = None
    attributes = []
    for condition in text.split("&"):
        key, found, value = condition.strip().partition("=")
        key, value = key.strip(), value.strip()
        if not found or not value:
            raise ValueError(f"{_NO_RULE}; {condition.strip()!r:.60} is none")
        pattern = re.compile(fnmatch.translate(value))
        if key == "name":
            name = pattern
        elif key == "op":
            op = pattern
        elif key.startswith("attr.") and key != "attr.":
            attributes.append((key[len("attr.") :], pattern))
        else:
            raise ValueError(f"{_NO_RULE}; {condition.strip()!r:.60} is none")
    return SpanRule(name, op, tuple(attributes))


def without_ignored(
    spans: deque[ReadableSpan], rules: tuple[SpanRule, ...], wanted: set[int]
) -> tuple[deque[ReadableSpan], int]:
    """*spans* without those that a rule matches, and their number; what hung on those hangs on their parents.

    *wanted* are span ids that stay whatever the rules say: issues point to them.
    """
    from otel_sentry.convention import describe

    def described(span: Any) -> Any:
        return describe(span, is_root=False)

    gone = {}
    for span in spans:
        span_id = span.context.span_id
        if span_id not in wanted and any(rule.matches(span, described) for rule in rules):
            gone[span_id] = span.parent
    if not gone:
        return spans, 0
    return deque(_lifted(span, gone) for span in spans if span.context.span_id not in gone), len(gone)


def _lifted(span: ReadableSpan, gone: dict[int, Any]) -> ReadableSpan:
    """*span* below its nearest ancestor that is left."""
    parent, steps = span.parent, 0
    while parent is not None and parent.span_id in gone and steps <= len(gone):
        parent, steps = gone[parent.span_id], steps + 1
    return span if parent is span.parent else with_changes(span, parent=parent)


def with_changes(span: ReadableSpan, **changes: Any) -> ReadableSpan:
    """A copy of a span with other values of some constructor arguments: spans are read-only."""
    from opentelemetry.sdk.trace import ReadableSpan

    fields = {
        "name": span.name,
        "context": span.context,
        "parent": span.parent,
        "resource": span.resource,
        "attributes": span.attributes,
        "events": span.events,
        "links": span.links,
        "kind": span.kind,
        "status": span.status,
        "start_time": span.start_time,
        "end_time": span.end_time,
        "instrumentation_scope": span.instrumentation_scope,
    }
    return ReadableSpan(**{**fields, **changes})
