"""`SentrySpanExporter`: our way into a foreign distro or provider, from finished spans only.

Under our own distro the pipeline does this better; here there is no error-time context, and the doc line says so once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_sentry import guard, runtime
from otel_sentry.trace import tracestate
from otel_sentry.trace.segment import NO_DECISION, Segment

#: Traces whose root has not been exported yet; past this the oldest is sent as it is.
MAX_WAITING_TRACES = 2_000


class SentrySpanExporter(SpanExporter):
    """Turns exported spans back into segments and sends them to Sentry.

    Args:
        settings: as for `otel_sentry.configure`; by default the environment's. Without a DSN nothing is sent.

    """

    def __init__(self, **settings: Any) -> None:
        from otel_sentry import bootstrap, process
        from otel_sentry import settings as table

        if runtime.get() is None:
            bootstrap.build(table.load(None, **settings), overrides=settings)
            process.install()
            guard.say(
                "otel_sentry runs as a plain exporter: spans arrive, errors get no context; use our distro for both"
            )
        self._waiting: OrderedDict[int, list[ReadableSpan]] = OrderedDict()
        self._lock = threading.Lock()  # the exporter runs on one export thread; force_flush may come from another

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep spans until their local root comes, then send them together."""
        with guard.block("span export"), self._lock:
            for span in spans:
                self._take(span)
            while len(self._waiting) > MAX_WAITING_TRACES:
                _, orphans = self._waiting.popitem(last=False)
                self._send(orphans[0], orphans[1:])
        return SpanExportResult.SUCCESS

    def _take(self, span: ReadableSpan) -> None:
        context = span.context
        if context is None:
            return
        if span.parent is not None and not span.parent.is_remote:
            self._waiting.setdefault(context.trace_id, []).append(span)
            return
        waiting = self._waiting.pop(context.trace_id, [])
        below, others = _descendants(context.span_id, waiting)
        if others:
            self._waiting[context.trace_id] = others
        self._send(span, below)

    def _send(self, root: ReadableSpan, below: list[ReadableSpan]) -> None:
        current = runtime.get()
        context = root.context
        if current is None or current.sender is None or context is None:
            return
        state = tracestate.parse_member(context.trace_state.get(tracestate.KEY))
        if state is None:
            # An empty context: export threads run with instrumentation suppressed, which means "no" to a sampler.
            result = current.sampler.should_sample(
                Context(), context.trace_id, root.name, root.kind, root.attributes, ()
            )
            member = result.trace_state.get(tracestate.KEY) if result.trace_state else None
            state = tracestate.parse_member(member) or NO_DECISION
        if not state.sampled:
            return
        segment = Segment(context.trace_id, context.span_id, root.parent.span_id if root.parent else None, state)
        segment.root = root
        segment.spans = deque(below)
        current.pipeline.put(segment)

    def shutdown(self) -> None:
        """Send what is left, roots or not."""
        with guard.block("exporter shutdown"), self._lock:
            while self._waiting:
                _, orphans = self._waiting.popitem(last=False)
                self._send(orphans[0], orphans[1:])

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is ready, within *timeout_millis*."""
        current = runtime.get()
        if current is None or current.sender is None:
            return True
        return current.sender.flush(timeout_millis / 1000)


def _descendants(root_id: int, spans: list[ReadableSpan]) -> tuple[list[ReadableSpan], list[ReadableSpan]]:
    """Split *spans* of one trace into those below *root_id* and the rest."""
    children: dict[int, list[ReadableSpan]] = {}
    for span in spans:
        if span.parent is not None:
            children.setdefault(span.parent.span_id, []).append(span)
    below: list[ReadableSpan] = []
    queue = deque([root_id])
    while queue:
        for child in children.pop(queue.popleft(), []):
            below.append(child)
            if child.context is not None:
                queue.append(child.context.span_id)
    others = [span for remaining in children.values() for span in remaining]
    return below, others
