"""The record of one local root: everything that is known about one request, task or command in this process.

Decisions 1, 13, 16: Sentry's sampling decision, the frozen sampling context (DSC), the ambient user and business
context, the sentry_sdk scopes and the finished spans all live here, and nowhere else.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from otel_sentry.trace.tracestate import Decision

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext

REMOTE_KEY = otel_context.create_key("otel-sentry-remote")
NO_DECISION = Decision(None)


@dataclass(frozen=True, slots=True)
class Remote:
    """What the propagator read from one carrier.

    *dsc* holds the dynamic sampling context without the ``sentry-`` prefix. *frozen* means that the head of the trace
    is elsewhere: the DSC is forwarded as it came, even when empty (sentry docs, "Dynamic Sampling Context").
    """

    trace_id: int
    span_id: int
    sampled: bool | None
    dsc: Mapping[str, str]
    frozen: bool
    sample_rate: float | None = None
    sample_rand: float | None = None


def remote_of(context: Context | None = None) -> Remote | None:
    """The `Remote` that `SentryPropagator.extract` stored in *context* (default: the current one)."""
    value = otel_context.get_value(REMOTE_KEY, context)
    return value if isinstance(value, Remote) else None


class Segment:
    """A local root and what ended under it. Mutated by many threads with single bytecode-level operations only
    (append, item assignment), never under a lock: spans can be ended by the garbage collector (decision 18)."""

    __slots__ = (
        "business",
        "crumbs",
        "current_scope",
        "decision",
        "dropped",
        "event_ids",
        "frozen_dsc",
        "isolation_scope",
        "kept",
        "late_of",
        "live_root",
        "not_before",
        "open",
        "parent_span_id",
        "remote",
        "request",
        "root",
        "seen_exceptions",
        "sent",
        "size",
        "span_id",
        "spans",
        "started",
        "tags",
        "trace_id",
        "user",
    )

    def __init__(
        self,
        trace_id: int,
        span_id: int,
        parent_span_id: int | None,
        decision: Decision,
        remote: Remote | None = None,
        live_root: Span | None = None,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_span_id = parent_span_id
        self.decision = decision
        self.remote = remote
        self.live_root = live_root
        self.root: ReadableSpan | None = None
        self.spans: deque[ReadableSpan] = deque()
        self.open: set[int] = set()
        self.size = 0
        self.dropped = 0
        self.sent = False
        self.not_before = 0.0
        self.started = time.monotonic()
        #: True when this record holds spans that ended after their own segment had left (its span id).
        self.late_of: int | None = None
        self.frozen_dsc: dict[str, str] | None = None
        self.user: Mapping[str, Any] | None = None
        self.business: Any = None
        self.tags: dict[str, str] = {}
        self.isolation_scope: Any = None
        self.current_scope: Any = None
        #: Returns the live request of the framework that runs here (decision 24), or None.
        self.request: Callable[[], Any] | None = None
        #: id(exception) -> (span id, parent span id) of the innermost span that saw it; dropped with the segment.
        self.seen_exceptions: dict[int, tuple[int, int | None]] = {}
        self.event_ids: list[tuple[int, str]] = []

    @property
    def sampled(self) -> bool:
        """Does Sentry keep this segment?"""
        return self.decision.sampled is True

    def name_and_source(self) -> tuple[str, str]:
        """The transaction name as known now, and its Sentry source."""
        span = self.root or self.live_root
        if span is None:
            return "", "custom"
        from otel_sentry.convention import describe

        described = describe(span, is_root=True, style=_style())
        return described.name, described.source


def _style() -> str:
    runtime = sys.modules.get("otel_sentry.runtime")
    current = runtime.get() if runtime else None
    return current.settings.django_transaction_style if current else "otel"


class Table:
    """Live span id -> segment. Bounded: past *limit* the entries that were registered first are forgotten."""

    __slots__ = ("_by_span", "limit")

    def __init__(self, limit: int = 100_000) -> None:
        self._by_span: dict[tuple[int, int], Segment] = {}
        self.limit = limit

    def __len__(self) -> int:
        return len(self._by_span)

    def get(self, span_context: SpanContext) -> Segment | None:
        return self._by_span.get((span_context.trace_id, span_context.span_id))

    def add(self, span_context: SpanContext, segment: Segment) -> Segment | None:
        """Register; returns the segment of the entry that had to be forgotten for it, if any."""
        evicted = None
        if len(self._by_span) >= self.limit:
            # next(iter()) may race with another thread's insertion: then nothing is evicted this time.
            try:
                evicted = self._by_span.pop(next(iter(self._by_span)), None)
            except (StopIteration, RuntimeError):
                pass
        self._by_span[(span_context.trace_id, span_context.span_id)] = segment
        return evicted

    def pop(self, span_context: SpanContext) -> Segment | None:
        return self._by_span.pop((span_context.trace_id, span_context.span_id), None)

    def clear(self) -> None:
        self._by_span.clear()


#: One table for the process, whatever the number of providers: span ids are unique.
table = Table()


def segment_of(span_context: SpanContext) -> Segment | None:
    """The segment that a live span of this process belongs to."""
    return table.get(span_context)


def current_segment() -> Segment | None:
    """The segment of the current span, if it is a live span of this process."""
    span_context = get_current_span().get_span_context()
    return table.get(span_context) if span_context.is_valid else None
