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

#: Busy roots that `Table` passes over before it forgets one.
_CHANCES = 8
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
        "extra",
        "failed",
        "frozen_dsc",
        "health",
        "is_part",
        "isolation_scope",
        "journeys",
        "keeping",
        "kept",
        "last_part",
        "late",
        "late_of",
        "live_root",
        "module",
        "not_before",
        "open",
        "parent_span_id",
        "parts",
        "profile",
        "remote",
        "request",
        "root",
        "seen_exceptions",
        "sent",
        "size",
        "span_id",
        "spans",
        "spared",
        "started",
        "summed",
        "tags",
        "totals",
        "trace_id",
        "unfinished",
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
        #: Unfinished spans (the root among them): span id -> parent's span id.
        self.open: dict[int, int | None] = {}
        #: Estimated bytes of `spans`.
        self.size = 0
        self.dropped = 0
        #: Not sampled, but all is kept until it is known whether a keep rule wants it.
        self.keeping = False
        #: A keep rule wants this segment, whatever sampling said: its weight is 1.
        self.kept = False
        #: An unhandled error was reported from it.
        self.failed = False
        #: Parts that have left before the root ended (as single spans); and is this one of them?
        self.parts = 0
        self.last_part: Segment | None = None
        self.is_part = False
        #: The root had not ended when this was sent (it was forgotten, or the process ended).
        self.unfinished = False
        #: The table has passed it over once (`Table`).
        self.spared = False
        #: What ended after the segment had left, by the unfinished span that it waits for.
        self.late: dict[int, Segment] = {}
        self.sent = False
        self.not_before = 0.0
        self.started = time.monotonic()
        #: True when this record holds spans that ended after their own segment had left (its span id).
        self.late_of: int | None = None
        self.frozen_dsc: dict[str, str] | None = None
        self.user: Mapping[str, Any] | None = None
        self.business: Any = None
        #: An `otel_sentry.ambient.journey.Here`, once a journey is touched in it.
        self.journeys: Any = None
        self.tags: dict[str, str] = {}
        self.isolation_scope: Any = None
        self.current_scope: Any = None
        #: Returns the live request of the framework that runs here (decision 24), or None.
        self.request: Callable[[], Any] | None = None
        #: Returns the part of the application that the running view belongs to, or None.
        self.module: Callable[[], str | None] | None = None
        #: Given "is PII on?", returns what the framework adds to `extra` of an error event, e.g. a task's arguments.
        self.extra: Callable[[bool], Mapping[str, Any]] | None = None
        #: id(exception) -> (span id, parent span id) of the innermost span that saw it; dropped with the segment.
        self.seen_exceptions: dict[int, tuple[int, int | None]] = {}
        #: What code has left (`otel_sentry.ambient.trail.Crumb`, as plain tuples); None: nothing yet.
        self.crumbs: list[Any] | None = None
        self.event_ids: list[tuple[int, str]] = []
        #: "exited", "errored" or "crashed" (`otel_sentry.sentry.sessions`).
        self.health = "exited"
        #: Calls that have ended below the root (`otel_sentry.trace.totals.Totals`), and are they on the root already?
        self.totals: Any = None
        self.summed = False
        #: An `otel_sentry.sentry.profiling.Profile`, where one is taken.
        self.profile: Any = None

    @property
    def sampled(self) -> bool:
        """Does Sentry keep this segment?"""
        return self.decision.sampled is True

    def top_of(self, parent_id: int | None) -> int | None:
        """The highest unfinished span above one whose parent is *parent_id*, without a gap; None: that has ended."""
        top = None
        for _ in range(1000):
            if parent_id is None or parent_id not in self.open:
                break
            top, parent_id = parent_id, self.open.get(parent_id)
        return top

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
    """Live span id -> segment. Bounded: past *limit* the entries that were registered first are forgotten, roots with
    something going on below them last. Age is no reason: a root may run for days."""

    __slots__ = ("_by_span", "limit")

    def __init__(self, limit: int = 100_000) -> None:
        self._by_span: dict[tuple[int, int], Segment] = {}
        self.limit = limit

    def __len__(self) -> int:
        return len(self._by_span)

    def get(self, span_context: SpanContext) -> Segment | None:
        return self._by_span.get((span_context.trace_id, span_context.span_id))

    def add(self, span_context: SpanContext, segment: Segment) -> tuple[int, Segment] | None:
        """Register; returns span id and segment of the entry that had to be forgotten for it, if any."""
        forgotten = self._forget() if len(self._by_span) >= self.limit else None
        self._by_span[(span_context.trace_id, span_context.span_id)] = segment
        return forgotten

    def _forget(self) -> tuple[int, Segment] | None:
        for chance in range(_CHANCES):
            try:
                key = next(iter(self._by_span))
            except (StopIteration, RuntimeError):  # another thread was faster: then nothing is forgotten this time
                return None
            segment = self._by_span.pop(key, None)
            if segment is None:
                continue
            busy = key[1] == segment.span_id and (len(segment.open) > 1 or (segment.spans and not segment.spared))
            if not busy or chance == _CHANCES - 1:
                return key[1], segment
            segment.spared = True
            self._by_span[key] = segment  # to the end of the line
        return None

    def pop(self, span_context: SpanContext) -> Segment | None:
        return self._by_span.pop((span_context.trace_id, span_context.span_id), None)

    def segments(self) -> list[Segment]:
        """All segments with unfinished spans, once each."""
        return list({id(segment): segment for segment in list(self._by_span.values())}.values())

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
