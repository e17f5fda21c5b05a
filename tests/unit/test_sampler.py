"""SentrySampler: one decision per local root, its reasons and its traces."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_sentry import counters, guard, runtime, settings
from otel_sentry.trace import dsc
from otel_sentry.trace.sampler import SamplingContext, SentrySampler, from_env
from otel_sentry.trace.segment import REMOTE_KEY
from otel_sentry.trace.tracestate import KEY, Decision, parse_member

TRACE = int("a" * 32, 16)  # its random number is 0.553213
KEEP, RECORD, DROP = (
    sampling.Decision.RECORD_AND_SAMPLE,
    sampling.Decision.RECORD_ONLY,
    sampling.Decision.DROP,
)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_current", None)
    monkeypatch.setattr(dsc, "_loaded", settings.load({}, environment="test", traces_sample_rate=0.5, release="r"))


def remote_context(
    sampled: bool | None = None, rate: float | None = None, rand: float | None = None, *, bare: bool = False,
    flag: bool = False, state: str = "",
) -> otel_context.Context:  # fmt: skip
    """A context as our propagator leaves it; *bare*: as if only a foreign traceparent had come."""
    span_context = SpanContext(TRACE, 2, True, TraceFlags(int(flag)), TraceState.from_header([state]))
    items = {"trace_id": f"{TRACE:032x}"}
    if rate is not None:
        items["sample_rate"] = str(rate)
    if rand is not None:
        items["sample_rand"] = str(rand)
    remote = dsc.remote_from_w3c(span_context, {}) if bare else dsc.remote_from_sentry(TRACE, 2, sampled, items)
    context = set_span_in_context(NonRecordingSpan(span_context), otel_context.Context())
    return otel_context.set_value(REMOTE_KEY, remote, context)


def ask(sampler: SentrySampler, context: otel_context.Context | None = None, name: str = "job", **more: Any) -> Any:
    return sampler.should_sample(otel_context.Context() if context is None else context, TRACE, name, **more)


def decision_of(result: sampling.SamplingResult) -> Decision | None:
    return parse_member((result.trace_state or {}).get(KEY))


def losses() -> dict[str, int]:
    """reason -> transactions; spans must have been counted alike."""
    found = counters.snapshot()
    transactions = {reason: n for (reason, category), n in found.items() if category == "transaction"}
    assert transactions == {reason: n for (reason, category), n in found.items() if category == "span"}
    return transactions


# --- The rate ---


def test_kept_below_the_rate() -> None:
    """0.553213 < 0.6: kept, recorded and flagged; rate on the span and in tracestate; nothing lost."""
    result = ask(SentrySampler(traces_sample_rate=0.6), attributes={"a": 1})
    assert result.decision is KEEP
    assert dict(result.attributes) == {"a": 1, "sentry.sample_rate": 0.6}
    assert result.trace_state[KEY] == "s:1;r:0.6;x:0.553213"
    assert losses() == {}


def test_not_kept_is_recorded_and_counted() -> None:
    """0.553213 >= 0.5: recorded only, for breadcrumbs; one transaction and one span in the client report."""
    result = ask(SentrySampler())
    assert result.decision is RECORD
    assert decision_of(result) == Decision(False, 0.5, 0.553213)
    assert losses() == {"sample_rate": 1}


def test_not_kept_can_be_dropped() -> None:
    """record_unsampled=False: no span, yet the tracestate tells the propagator what was decided."""
    result = ask(SentrySampler(record_unsampled=False))
    assert result.decision is DROP and decision_of(result) == Decision(False, 0.5, 0.553213)


def test_other_backends_get_what_sentry_does_not_keep() -> None:
    """Decision 1: the W3C flag is the OR of the gates, Sentry's no is in the tracestate."""
    result = ask(SentrySampler(other_backends=True))
    assert result.decision is KEEP and decision_of(result) == Decision(False, 0.5, 0.553213)


@pytest.mark.parametrize(("rate", "kept"), [(0.0, False), (1.0, True)])
def test_the_ends_of_the_scale_are_exact(rate: float, kept: bool) -> None:
    """0 keeps nothing and 1 everything, whatever the trace id."""
    sampler = SentrySampler(traces_sample_rate=rate)
    for i in range(1, 300):
        assert (sampler.should_sample(otel_context.Context(), i, "x").decision is KEEP) is kept


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), "0.5"])
def test_a_wrong_rate_is_refused_at_once(rate: Any) -> None:
    """ValueError where the program passes it, not a silent 0."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        SentrySampler(traces_sample_rate=rate)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_over_many_traces_the_rate_is_met(rate: float) -> None:
    """5000 fixed trace ids: within four standard deviations, and the invariant rand < rate <=> sampled
    holds."""
    sampler, n, kept = SentrySampler(traces_sample_rate=rate), 5_000, 0
    for i in range(n):
        decision = decision_of(
            sampler.should_sample(otel_context.Context(), (i * 0x9E3779B97F4A7C15F39CC0605CEDC834 + 1) % 2**128, "x")
        )
        assert decision is not None and decision.sample_rand is not None
        assert decision.sampled is (decision.sample_rand < rate)
        kept += bool(decision.sampled)
    assert abs(kept - n * rate) < 4 * (n * rate * (1 - rate)) ** 0.5


# --- The parent ---


@pytest.mark.parametrize("sampled", [True, False])
def test_a_remote_decision_is_inherited(sampled: bool) -> None:
    """No rate of ours applied: no attribute, no loss; the head's rate and number go on."""
    result = ask(SentrySampler(), remote_context(sampled, 0.3, 0.2))
    assert result.decision is (KEEP if sampled else RECORD)
    assert decision_of(result) == Decision(sampled, 0.3, 0.2)
    assert dict(result.attributes) == {} and losses() == {}


@pytest.mark.parametrize(("rand", "kept"), [(0.4, True), (0.6, False)])
def test_a_deferred_decision_is_ours(rand: float, kept: bool) -> None:
    """Taken with our rate and the trace's number."""
    result = ask(SentrySampler(), remote_context(None, None, rand))
    assert decision_of(result) == Decision(kept, 0.5, rand)
    assert losses() == ({} if kept else {"sample_rate": 1})


@pytest.mark.parametrize("flag", [True, False])
def test_a_bare_traceparent_is_deferred_by_default(flag: bool) -> None:
    """Its flag speaks of another backend; the number comes from the trace id, so all services agree."""
    assert decision_of(ask(SentrySampler(), remote_context(bare=True, flag=flag))) == Decision(False, 0.5, 0.553213)


@pytest.mark.parametrize("flag", [True, False])
def test_a_bare_traceparent_can_be_obeyed(flag: bool) -> None:
    """OTEL_SENTRY_W3C_PARENT=decision."""
    result = ask(SentrySampler(w3c_parent="decision"), remote_context(bare=True, flag=flag))
    assert decision_of(result) == Decision(flag, None, 0.553213)


def test_opentelemetrys_randomness_is_used() -> None:
    """`ot=rv:...`: 1 - rv is the trace's number."""
    context = remote_context(bare=True, state="ot=rv:e6000000000000,dd=x")
    result = ask(SentrySampler(), context)
    assert decision_of(result) == Decision(True, 0.5, 0.101562)
    assert result.trace_state is not None and result.trace_state["dd"] == "x"


def test_without_our_propagator_the_tracestate_still_speaks() -> None:
    """A W3C-only set-up of propagators: the member of the service before us is read by the sampler."""
    span_context = SpanContext(TRACE, 2, True, TraceFlags(1), TraceState([(KEY, "s:1;r:0.01;x:0.005")]))
    context = set_span_in_context(NonRecordingSpan(span_context), otel_context.Context())
    assert decision_of(ask(SentrySampler(), context)) == Decision(True, 0.01, 0.005)


def test_a_remote_of_another_trace_is_ignored() -> None:
    """Left over in the context while a new trace begins."""
    result = SentrySampler().should_sample(
        set_span_in_context(NonRecordingSpan(SpanContext(0, 0, False)), remote_context(True)), 5, "x"
    )
    decision = decision_of(result)
    assert decision is not None and decision.sample_rate == 0.5


def test_children_inherit_without_any_user_code() -> None:
    """Below a local parent: the same recording, the same state, the sampler function is not asked."""
    asked: list[Any] = []
    for rate in (1.0, 0.0):
        provider = TracerProvider(
            sampler=SentrySampler(traces_sampler=lambda context, rate=rate: asked.append(context) or rate)
        )
        tracer = provider.get_tracer("t")
        with tracer.start_as_current_span("root") as root, tracer.start_as_current_span("child") as child:
            a, b = root.get_span_context(), child.get_span_context()
            assert child.is_recording() and a.trace_flags.sampled == b.trace_flags.sampled == bool(rate)
            assert a.trace_state == b.trace_state and a.trace_state[KEY].startswith(f"s:{int(rate)}")
            assert "sentry.sample_rate" not in (child.attributes or {})  # type: ignore[attr-defined]
    assert len(asked) == 2


def test_children_of_a_dropped_root_are_dropped() -> None:
    """No recording below a span that is not recorded; the state goes on for the propagator."""
    tracer = TracerProvider(sampler=SentrySampler(traces_sample_rate=0, record_unsampled=False)).get_tracer("t")
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("child") as child:
        assert not child.is_recording() and child.get_span_context().trace_state[KEY].startswith("s:0")


def test_late_children_of_an_ended_unsampled_root_are_recorded_too() -> None:
    """An ended span does not record any more, but is no dropped one."""
    tracer = TracerProvider(sampler=SentrySampler(traces_sample_rate=0)).get_tracer("t")
    with tracer.start_as_current_span("root") as root:
        context = otel_context.get_current()
    assert not root.is_recording() and tracer.start_span("late", context).is_recording()


# traces_sampler
# -------------------------------------------------------------------------------------------------


def test_traces_sampler_wins_over_the_parent() -> None:
    """The user's function may keep what the parent dropped, and the other way round; then the loss is
    ours."""
    assert decision_of(ask(SentrySampler(traces_sampler=lambda c: 1.0), remote_context(False, 0.3))) == Decision(
        True, 1.0, sample_rand_of(False, 0.3)
    )
    assert losses() == {}
    assert decision_of(ask(SentrySampler(traces_sampler=lambda c: 0), remote_context(True, 0.3, 0.2))) == Decision(
        False, 0.0, 0.2
    )
    assert losses() == {"sample_rate": 1}


def sample_rand_of(sampled: bool, rate: float) -> float | None:
    return dsc.back_fill(TRACE, sampled, rate)


def test_none_means_no_opinion() -> None:
    """Then the parent's decision, then the rate."""
    sampler = SentrySampler(traces_sampler=lambda c: None, traces_sample_rate=0.6)
    assert decision_of(ask(sampler, remote_context(False))) == Decision(False, None, 0.553213)
    assert decision_of(ask(sampler)) == Decision(True, 0.6, 0.553213)


@pytest.mark.parametrize("answer", [True, 1, Decimal("0.9"), 0.9])
def test_bools_and_every_kind_of_number_are_rates(answer: Any) -> None:
    """As in sentry-python."""
    assert ask(SentrySampler(traces_sampler=lambda c: answer)).decision is KEEP


@pytest.mark.parametrize("answer", ["1", 2, -1, float("nan"), float("inf"), [], object()])
def test_nonsense_keeps_nothing_and_is_said(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Not kept, counted, one line, no rate on the span."""
    result = ask(SentrySampler(traces_sampler=lambda c: answer))
    assert decision_of(result) == Decision(False, 0.0, 0.553213) and dict(result.attributes) == {}
    assert losses() == {"sample_rate": 1}
    ask(SentrySampler(traces_sampler=lambda c: answer))
    assert capsys.readouterr().err.count("traces_sampler returned") == 1


@pytest.mark.allow_swallowed
@pytest.mark.parametrize(("parent", "kept"), [(True, True), (False, False), (None, True)])
def test_a_raising_sampler_leaves_it_to_parent_and_rate(
    parent: bool | None, kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Decision 3: one line, then the parent's decision, then the rate (0.6 here)."""
    sampler = SentrySampler(traces_sampler=lambda c: 1 / 0, traces_sample_rate=0.6)
    context = remote_context(parent) if parent is not None else None
    assert (ask(sampler, context).decision is KEEP) is kept
    ask(sampler, context)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "traces_sampler" in err and "ZeroDivisionError" in err
    assert list(guard.swallowed) == ["traces_sampler (the parent's decision or the rate is used)"]


def context_for(
    name: str, kind: SpanKind, attributes: dict[str, Any], parent: Any = None, style: str = "otel"
) -> SamplingContext:
    seen: list[SamplingContext] = []
    sampler = SentrySampler(traces_sampler=lambda c: seen.append(c) or 1, style=style)
    ask(sampler, parent, name, kind=kind, attributes=attributes)
    return seen[0]


def test_the_context_of_a_django_request() -> None:
    """Name with a leading slash, op, source; start attributes flat and together; sentry-python's keys."""
    attributes = {"http.request.method": "GET", "url.path": "/users/3/", "http.route": "users/<int:pk>/"}
    context = context_for("GET users/<int:pk>/", SpanKind.SERVER, attributes, remote_context(True, 0.3))
    assert context["transaction_context"] == {
        "name": "GET /users/<int:pk>/",
        "op": "http.server",
        "source": "route",
    }
    assert context["parent_sampled"] is True and context["parent_sample_rate"] == 0.3
    assert context["url.path"] == "/users/3/" and context["attributes"]["url.path"] == "/users/3/"
    assert context["wsgi_environ"]["PATH_INFO"] == context["asgi_scope"]["path"] == "/users/3/"


def test_the_context_of_a_celery_task() -> None:
    """`run/x` is task x, op queue.process."""
    context = context_for("run/shop.tasks.mail", SpanKind.CONSUMER, {})
    assert context["transaction_context"] == {
        "name": "shop.tasks.mail",
        "op": "queue.process",
        "source": "task",
    }
    assert context["celery_job"] == {"task": "shop.tasks.mail"} and "wsgi_environ" not in context


@pytest.mark.parametrize(
    ("sampled", "rate", "result"),
    [(True, 0.3, 0.3), (False, None, 0.0), (True, None, 1.0), (None, None, 0.7)],
)
def test_inherit_or_sample_with(sampled: bool | None, rate: float | None, result: float) -> None:
    """The parent's rate, its decision, else the given rate."""
    context = context_for("x", SpanKind.INTERNAL, {}, remote_context(sampled, rate))
    assert context.inherit_or_sample_with(0.7) == result


# --- Ignoring, noise, pressure ---


@pytest.mark.parametrize(
    ("pattern", "ignored"),
    [
        ("^/health", True),
        ("^GET /health/live$", True),
        ("^/heal$", False),
        ("^GET health", True),
        ("other", False),
    ],
)
def test_ignored_transactions(pattern: str, ignored: bool) -> None:
    """Found in name, path or METHOD path; wins over a parent that was sampled; counted as ignored."""
    sampler = SentrySampler(traces_sample_rate=1, ignore_transactions=[pattern], default_ignores=False)
    result = ask(
        sampler, remote_context(True), "GET health/live", kind=SpanKind.SERVER,
        attributes={"http.method": "GET", "http.target": "/health/live?x=1"},
    )  # fmt: skip
    assert (result.decision is RECORD) is ignored
    assert losses() == ({"ignored": 1} if ignored else {})


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD"])
@pytest.mark.parametrize("key", ["http.method", "http.request.method"])
def test_options_and_head_are_not_kept(method: str, key: str) -> None:
    """Recorded only, decided no, and no client report: nobody would miss them."""
    result = ask(
        SentrySampler(traces_sample_rate=1),
        remote_context(True),
        kind=SpanKind.SERVER,
        attributes={key: method},
    )
    decision = decision_of(result)
    assert result.decision is RECORD and decision is not None and decision.sampled is False and losses() == {}
    assert ask(SentrySampler(traces_sample_rate=1), kind=SpanKind.CLIENT, attributes={key: method}).decision is KEEP


@pytest.mark.parametrize("attributes", [{"db.system": "redis"}, {"db.system.name": "redis"}, {"db.system": "valkey"}])
def test_polling_of_the_broker_makes_no_traces(attributes: dict[str, Any]) -> None:
    """Redis commands outside any trace are dropped silently; with a parent, or by option, they are spans."""
    sampler = SentrySampler(traces_sample_rate=1)
    result = ask(sampler, kind=SpanKind.CLIENT, attributes=attributes)
    assert result.decision is DROP and losses() == {}
    assert ask(sampler, remote_context(True), kind=SpanKind.CLIENT, attributes=attributes).decision is KEEP
    kept = SentrySampler(traces_sample_rate=1, drop_redis_roots=False)
    assert ask(kept, kind=SpanKind.CLIENT, attributes=attributes).decision is KEEP


@pytest.mark.parametrize("key", [otel_context._SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation"])
def test_suppressed_means_dropped(key: str) -> None:
    """By either key, at a root and below a sampled parent."""
    tracer = TracerProvider(sampler=SentrySampler(traces_sample_rate=1)).get_tracer("t")
    assert not tracer.start_span("x", otel_context.set_value(key, True)).is_recording()
    with tracer.start_as_current_span("root"):
        assert not tracer.start_span("x", otel_context.set_value(key, True)).is_recording()


def test_backpressure_halves_the_rate() -> None:
    """eff = rate / 2**n; what only the pressure cost is counted as backpressure."""
    result = ask(SentrySampler(traces_sample_rate=0.8, downsample_factor=lambda: 1))
    assert decision_of(result) == Decision(False, 0.4, 0.553213) and losses() == {"backpressure": 1}
    assert dict(result.attributes) == {"sentry.sample_rate": 0.4}


def test_backpressure_thins_out_what_the_parent_sampled() -> None:
    """By the number that the parent drew too, so that the traces that stay are whole."""
    sampler = SentrySampler(downsample_factor=lambda: 2)
    assert decision_of(ask(sampler, remote_context(True, 0.4, 0.05))) == Decision(True, 0.1, 0.05)
    assert decision_of(ask(sampler, remote_context(True, 0.4, 0.2))) == Decision(False, 0.1, 0.2)
    assert decision_of(ask(sampler, remote_context(False, 0.4, 0.5))) == Decision(False, 0.4, 0.5)
    assert losses() == {"backpressure": 1}


@pytest.mark.parametrize("sampled", [True, False, None])
def test_without_tracing_the_decision_is_left_to_others(sampled: bool | None) -> None:
    """Errors only: what came goes on, nothing is counted, spans are recorded for breadcrumbs."""
    sampler = SentrySampler(tracing=False)
    result = ask(sampler, remote_context(sampled, 0.4, 0.2))
    assert decision_of(result) == Decision(sampled, 0.4, 0.2) and losses() == {}
    assert result.decision is (KEEP if sampled else RECORD)
    assert decision_of(ask(sampler)) == Decision(None, None, 0.553213)


# --- The user's own OTel sampler ---


def test_an_own_otel_sampler_decides_for_sentry() -> None:
    """Decision 5: rate in DSC and client report stay right, and the number agrees with what was decided."""
    sampler = SentrySampler(base=sampling.TraceIdRatioBased(0.25))
    for i in range(1, 200):
        trace_id = i << 57 | i
        decision = decision_of(sampler.should_sample(otel_context.Context(), trace_id, "x"))
        assert decision is not None and decision.sample_rand is not None and decision.sample_rate == 0.25
        assert decision.sampled is (trace_id & 2**64 - 1 < 2**62) is (decision.sample_rand < 0.25)
    assert losses()["sample_rate"] > 100


@pytest.mark.parametrize("sampled", [True, False])
def test_a_parent_based_sampler_sees_sentrys_decision(sampled: bool) -> None:
    """Not the W3C flag, which other backends' gates may have set."""
    sampler = SentrySampler(base=sampling.ParentBased(sampling.ALWAYS_ON))
    result = ask(sampler, remote_context(sampled, 0.3, 0.2, flag=not sampled))
    assert decision_of(result) == Decision(sampled, 0.3, 0.2) and losses() == {}


def test_a_parent_based_sampler_decides_what_was_deferred() -> None:
    """By its root sampler."""
    sampler = SentrySampler(base=sampling.ParentBased(sampling.ALWAYS_ON))
    assert decision_of(ask(sampler, remote_context(None))) == Decision(True, 1.0, 0.553213)


def test_what_an_own_sampler_adds_is_kept() -> None:
    """Its attributes and its tracestate."""

    class Adding(sampling.Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> sampling.SamplingResult:
            return sampling.SamplingResult(KEEP, {"mine": 1}, TraceState([("own", "1")]))

        def get_description(self) -> str:
            return "Adding"

    result = ask(SentrySampler(base=Adding()), attributes={"a": 1})
    assert dict(result.attributes) == {"a": 1, "mine": 1}
    assert result.trace_state is not None and result.trace_state.to_header() == "sentry=s:1;x:0.553213,own=1"
    assert SentrySampler(base=Adding()).get_description() == "SentrySampler{Adding}"


@pytest.mark.allow_swallowed
def test_a_raising_own_sampler_leaves_it_to_the_rate() -> None:
    """One line by the guard, then the rate."""

    class Raising(sampling.Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> sampling.SamplingResult:
            raise RuntimeError("no")

        def get_description(self) -> str:
            return "Raising"

    assert decision_of(ask(SentrySampler(base=Raising()))) == Decision(False, 0.5, 0.553213)


# --- Settings ---


@pytest.mark.parametrize(("arg", "rate"), [("0.25", 0.25), (None, 0.5), ("", 0.5), ("x", 0.5), ("7", 0.5)])
def test_the_entry_point(arg: str | None, rate: float, capsys: pytest.CaptureFixture[str]) -> None:
    """OTEL_TRACES_SAMPLER_ARG is the rate; without one, or with a wrong one (said), the settings'."""
    assert from_env(arg).get_description() == f"SentrySampler{{{rate}}}"
    assert bool(capsys.readouterr().err) is (arg in ("x", "7"))


def test_a_later_configure_is_taken_over() -> None:
    """`update` takes rate, function and patterns."""
    sampler = SentrySampler()
    sampler.update(settings.load({}, environment="test", traces_sample_rate=1.0, ignore_transactions=("job",)))
    assert ask(sampler).decision is RECORD and ask(sampler, name="other").decision is KEEP


def test_an_explicit_rate_is_not_overruled_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function set by OTEL_SENTRY_TRACES_SAMPLER counts only where no rate was passed."""
    monkeypatch.setattr(dsc, "_loaded", settings.load({}, environment="test", traces_sampler=lambda c: 0))
    assert ask(SentrySampler(traces_sample_rate=1.0)).decision is KEEP
    assert ask(SentrySampler()).decision is RECORD
