"""`SentrySampler`: the one place where Sentry's sampling decision is taken, once per local root.

The decision travels in the tracestate member ``sentry=...``; the W3C sampled flag is the OR of all backends'
gates (decisions 1 to 3). Precedence: `traces_sampler` (or the user's own OTel sampler), the parent's
decision, the rate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from otel_sentry import counters, guard
from otel_sentry.trace import dsc, rules
from otel_sentry.trace.propagator import is_suppressed
from otel_sentry.trace.rate import keeps
from otel_sentry.trace.segment import Remote, remote_of
from otel_sentry.trace.start import SamplingContext, Start, as_rate, is_redis_command
from otel_sentry.trace.tracestate import Decision

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Link
    from opentelemetry.util.types import Attributes

    from otel_sentry.settings import Settings

RATE_ATTRIBUTE = "sentry.sample_rate"
_NOT_CAPTURED = ("OPTIONS", "HEAD")  # as sentry-python's DEFAULT_HTTP_METHODS_TO_CAPTURE

__all__ = ["SamplingContext", "SentrySampler", "from_env"]

_DROPPED = sampling.SamplingResult(sampling.Decision.DROP)


class Verdict(NamedTuple):
    """A decision, whether a rate of this service led to it, and the reason if the loss is ours."""

    decision: Decision
    local: bool = False
    loss: str | None = None


class SentrySampler(sampling.Sampler):
    """Decides for Sentry; for a provider of your own, or made by `configure`.

    Args:
        traces_sample_rate: share of the roots that is kept, 0 to 1. Default: the settings'.
        traces_sampler: gets a `SamplingContext`, returns a rate, a bool, or None ("no opinion").
        record_unsampled: record what is not kept (RECORD_ONLY), for breadcrumbs and thresholds.
        other_backends: share of the traces that other exporters want (True: all); there Sentry's decision shows in
            tracestate only.
        w3c_parent: `defer` or `decision`, what the flag of a bare ``traceparent`` means.
        base: an OTel sampler that decides in place of rate and `traces_sampler`.
        ignore_transactions: regular expressions; a root is not kept when one is found in its name, its path
            or ``METHOD /path``.
        downsample_factor: n from 0; while the sender is in trouble rates are divided by 2 to the n.
        drop_redis_roots: no spans for Redis commands outside any trace (a Celery worker polling its broker).
        style: `otel` or `sentry`, the names of Django's transactions.
        tracing: False: Sentry gets no spans from here, so the decision is left to the others ("deferred").
        default_ignores: leave health checks and static files out.

    Raises:
        ValueError: *traces_sample_rate* is not within 0 to 1.

    """

    def __init__(
        self,
        *,
        traces_sample_rate: float | None = None,
        traces_sampler: Callable[..., Any] | None = None,
        record_unsampled: bool = True,
        other_backends: float = False,
        w3c_parent: str | None = None,
        base: sampling.Sampler | None = None,
        ignore_transactions: Iterable[str] | None = None,
        downsample_factor: Callable[[], int] | None = None,
        drop_redis_roots: bool = True,
        style: str | None = None,
        tracing: bool = True,
        default_ignores: bool | None = None,
    ) -> None:
        settings = dsc.current_settings()
        if traces_sample_rate is None:
            traces_sample_rate = settings.traces_sample_rate
            if traces_sampler is None and base is None:
                traces_sampler = settings.traces_sampler
        elif as_rate(traces_sample_rate) is None:
            raise ValueError(f"traces_sample_rate must be from 0 to 1, not {traces_sample_rate!r}")
        self._rate = float(traces_sample_rate)
        self._traces_sampler = traces_sampler
        self._base = base
        self._record_unsampled = record_unsampled
        self._other_backends = float(other_backends)
        self._w3c_parent = w3c_parent or settings.w3c_parent
        if ignore_transactions is None:
            ignore_transactions = settings.ignore_transactions
        self._ignored = _compiled(ignore_transactions)
        self._downsample_factor = downsample_factor
        self._drop_redis_roots = drop_redis_roots
        self._style = style or settings.django_transaction_style
        self._tracing = tracing
        self._default_ignores = settings.default_ignores if default_ignores is None else default_ignores

    def update(self, settings: Settings) -> None:
        """Take the settings of a later `configure`."""
        self._rate = settings.traces_sample_rate
        self._traces_sampler = settings.traces_sampler
        self._w3c_parent = settings.w3c_parent
        self._ignored = _compiled(settings.ignore_transactions)
        self._default_ignores = settings.default_ignores
        self._style = settings.django_transaction_style

    def get_description(self) -> str:
        """Shown by OTel's own tools."""
        own = "traces_sampler" if self._traces_sampler else self._rate
        return f"SentrySampler{{{self._base.get_description() if self._base else own}}}"

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> sampling.SamplingResult:
        """Inherit below a local parent (no user code, O(1)), decide at a local root. Never raises."""
        if is_suppressed(parent_context):
            return _DROPPED
        parent = get_current_span(parent_context)
        span_context = parent.get_span_context()
        if span_context.is_valid and not span_context.is_remote:
            inherited = _inherited(parent, span_context)
            return sampling.SamplingResult(inherited, attributes, span_context.trace_state)
        with guard.block("sampler"):
            return self._root(parent_context, span_context, trace_id, name, kind, attributes or {}, links)
        return sampling.SamplingResult(sampling.Decision.DROP, None, span_context.trace_state)

    def _root(
        self,
        context: Context | None,
        parent: SpanContext,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any],
        links: Sequence[Link] | None,
    ) -> sampling.SamplingResult:
        if self._drop_redis_roots and not parent.is_valid and is_redis_command(kind, attributes):
            return _DROPPED
        remote = self._remote(context, parent) if parent.is_valid else None
        root = Start(context, parent, remote, trace_id, name, kind, attributes, links)
        verdict, state = self._verdict(root), parent.trace_state
        if verdict is None:  # the user's OTel sampler decides, and may add to attributes and state
            verdict, attributes, state = self._ask_base(root)
        if verdict.loss is not None:
            counters.lost(verdict.loss, "transaction")
            counters.lost(verdict.loss, "span")
        decision = verdict.decision
        if verdict.local and decision.sample_rate is not None:
            attributes = {**attributes, RATE_ATTRIBUTE: decision.sample_rate}
        return sampling.SamplingResult(self._gate(decision, trace_id), attributes, dsc.with_member(state, decision))

    def _gate(self, decision: Decision, trace_id: int) -> sampling.Decision:
        if decision.sampled or keeps(trace_id, self._other_backends):
            return sampling.Decision.RECORD_AND_SAMPLE
        return sampling.Decision.RECORD_ONLY if self._record_unsampled else sampling.Decision.DROP

    def _remote(self, context: Context | None, parent: SpanContext) -> Remote:
        remote = remote_of(context)
        if remote is None or remote.trace_id != parent.trace_id:  # our propagator did not run
            remote = dsc.remote_from_w3c(parent, {})
        if not remote.frozen and remote.sampled is None and self._w3c_parent == "decision":
            return replace(remote, sampled=parent.trace_flags.sampled)
        return remote

    def _verdict(self, root: Start) -> Verdict | None:
        """The decision; None: the base sampler's."""
        sampled, rate, rand = dsc.incoming(root.trace_id, root.remote)
        if not self._tracing:
            return Verdict(Decision(sampled, rate, rand))
        if root.kind is SpanKind.SERVER and root.method in _NOT_CAPTURED:
            return Verdict(Decision(False, 0.0, rand))
        if self._is_ignored(root):
            return Verdict(Decision(False, 0.0, rand), loss="ignored")
        if self._base is not None:
            return None
        if self._traces_sampler is not None:
            own = self._ask(self._traces_sampler, root, sampled, rate)
            if own is not None:
                return self._draw(own, rand)
        return self._without_sampler(sampled, rate, rand)

    def _without_sampler(self, sampled: bool | None, rate: float | None, rand: float) -> Verdict:
        if sampled is None:
            return self._draw(self._rate, rand)
        if sampled and self._factor():  # too much comes in: thin out, by the number that the parent drew too
            return self._draw(rate or 1.0, rand)
        return Verdict(Decision(sampled, rate, rand))

    def _draw(self, rate: float, rand: float) -> Verdict:
        """Keep when the trace's random number is below *rate*; a negative one stands for an invalid one."""
        effective = _six_digits(max(rate, 0.0) / 2 ** self._factor())
        kept = rand < effective
        loss = None if kept else "backpressure" if rand < rate else "sample_rate"
        return Verdict(Decision(kept, effective, rand), local=rate >= 0, loss=loss)

    def _factor(self) -> int:
        return self._downsample_factor() if self._downsample_factor is not None else 0

    def _ask(
        self, traces_sampler: Callable[..., Any], root: Start, sampled: bool | None, rate: float | None
    ) -> float | None:
        """The user's rate. None: no opinion, or it raised (said by the guard); -1: nonsense."""
        answer = None
        with guard.block("traces_sampler (the parent's decision or the rate is used)"):
            answer = traces_sampler(root.sampling_context(sampled, rate, self._style))
        if answer is None:
            return None
        own = as_rate(answer)
        if own is None:
            line = f"traces_sampler returned {answer!r:.80}, which is no rate from 0 to 1: the trace is not kept"
            guard.say_once("traces_sampler", line)
            return -1.0
        return own

    def _is_ignored(self, root: Start) -> bool:
        if self._default_ignores and root.kind is SpanKind.SERVER and rules.is_noise(root.path, root.user_agent):
            return True
        if not self._ignored:
            return False
        names = root.names(self._style)
        return any(pattern.search(name) for pattern in self._ignored for name in names)

    def leaves_out(self, span: ReadableSpan) -> bool:
        """Did a rule, and no rate, leave this local root out? Then no keep rule brings it back."""
        parent = span.parent or INVALID_SPAN_CONTEXT
        root = Start(None, parent, None, span.context.trace_id, span.name, span.kind, span.attributes or {}, ())
        not_captured = root.kind is SpanKind.SERVER and root.method in _NOT_CAPTURED
        return not_captured or self._is_ignored(root)

    def loss_of(self, decision: Decision) -> str:
        """The reason under which a root with this decision was counted as lost."""
        rate, rand = decision.sample_rate, decision.sample_rand
        if rate is None or rand is None:
            return "sample_rate"
        return "backpressure" if rand < rate * 2 ** self._factor() else "sample_rate"

    def _ask_base(self, root: Start) -> tuple[Verdict, Mapping[str, Any], TraceState]:
        assert self._base is not None
        sampled, rate, rand = dsc.incoming(root.trace_id, root.remote)
        result = None
        with guard.block("OTEL_TRACES_SAMPLER's sampler (the parent's decision or the rate is used)"):
            result = self._base.should_sample(
                _for_base(root, sampled), root.trace_id, root.name, root.kind, root.attributes, root.links
            )
        if result is None:
            return self._without_sampler(sampled, rate, rand), root.attributes, root.parent.trace_state
        kept = result.decision is sampling.Decision.RECORD_AND_SAMPLE
        inherits = isinstance(self._base, sampling.ParentBased) and sampled is not None
        if inherits:
            verdict = Verdict(Decision(kept, rate, rand))
        else:
            own = _rate_of(self._base)
            agreeing = dsc.back_fill(root.trace_id, kept, own)
            verdict = Verdict(
                Decision(kept, own, rand if agreeing is None else agreeing),
                True,
                None if kept else "sample_rate",
            )
        state = result.trace_state if result.trace_state is not None else root.parent.trace_state
        return verdict, {**root.attributes, **result.attributes}, state


def _inherited(parent: Span, span_context: SpanContext) -> sampling.Decision:
    if span_context.trace_flags & TraceFlags.SAMPLED:
        return sampling.Decision.RECORD_AND_SAMPLE
    # An ended span no longer records, but its late children belong to it all the same.
    return sampling.Decision.DROP if isinstance(parent, NonRecordingSpan) else sampling.Decision.RECORD_ONLY


def _for_base(root: Start, sampled: bool | None) -> Context | None:
    """The context for a parent-based sampler: the flag is Sentry's decision; deferred: no parent."""
    if not root.parent.is_valid:
        return root.context
    if sampled is None:
        span_context = SpanContext(0, 0, False)
    else:
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        span_context = SpanContext(root.trace_id, root.parent.span_id, True, flags, root.parent.trace_state)
    return set_span_in_context(NonRecordingSpan(span_context), root.context)


def _rate_of(sampler: sampling.Sampler) -> float | None:
    """The rate of one of the SDK's own samplers."""
    inner = getattr(sampler, "_root", sampler)  # of ParentBased; it has no public name
    if isinstance(inner, sampling.TraceIdRatioBased):
        return inner.rate
    return 1.0 if inner is sampling.ALWAYS_ON else 0.0 if inner is sampling.ALWAYS_OFF else None


@lru_cache(maxsize=256)
def _six_digits(rate: float) -> float:
    """As tracestate writes it: otherwise "rand < rate" could differ between hops."""
    return float(f"{rate:.6g}")


def _compiled(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


def from_env(arg: str | None = None) -> SentrySampler:
    """Entry point for ``OTEL_TRACES_SAMPLER=otel_sentry``; *arg*, ``..._SAMPLER_ARG``, is the rate."""
    if not arg or not arg.strip():
        return SentrySampler()
    try:
        return SentrySampler(traces_sample_rate=float(arg))
    except ValueError:
        guard.say(f"OTEL_TRACES_SAMPLER_ARG={arg!r:.40} is no rate from 0 to 1; the settings' rate is used")
        return SentrySampler()
