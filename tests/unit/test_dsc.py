"""The dynamic sampling context: made once by the head, forwarded as it came by the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from otel_sentry import runtime, settings
from otel_sentry.trace import dsc
from otel_sentry.trace.dsc import back_fill, continues, dsc_of, head_dsc, probability, sample_rand
from otel_sentry.trace.segment import Remote, Segment
from otel_sentry.trace.tracestate import Decision

TRACE = int("a" * 32, 16)
HEX = "a" * 32


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)


def use(monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> None:
    """Put settings in force as if they had come from the environment."""
    values: dict[str, Any] = {
        "dsn": "https://key@o7.ingest.example.com/1",
        "release": "shop@1",
        "environment": "test",
        **overrides,
    }
    monkeypatch.setattr(runtime, "_current", None)
    monkeypatch.setattr(dsc, "_loaded", settings.load({}, **values))


class Named(Segment):
    """A segment whose name is given, so that no span is needed."""

    name, source, asked = "GET /users/<int:pk>/", "route", 0

    def name_and_source(self) -> tuple[str, str]:
        type(self).asked += 1
        return self.name, self.source


def segment(remote: Remote | None = None, decision: Decision | None = None) -> Named:
    return Named(TRACE, 1, None, decision or Decision(True, 0.25, 0.138303), remote)


def remote(flag: bool | None = True, /, **items: str) -> Remote:
    return dsc.remote_from_sentry(TRACE, 2, flag, items)


def test_sample_rand_is_the_one_of_sentry_python() -> None:
    """The published check values: services that share nothing but the trace id agree."""
    assert sample_rand(TRACE) == 0.553213
    assert sample_rand(TRACE, 0, 0.25) == 0.138303


@given(st.integers(1, 2**128 - 1), st.floats(0, 1), st.booleans())
def test_back_filled_numbers_agree_with_the_decision(trace_id: int, rate: float, sampled: bool) -> None:
    """rand < rate exactly when sampled, up to the six digits; an empty range gives none."""
    rand = back_fill(trace_id, sampled, rate)
    if rand is None:
        assert rate == (0 if sampled else 1)
    elif sampled:
        assert 0 <= rand <= rate
    else:
        assert int(rate * 1e6) / 1e6 <= rand < 1


def test_sample_rand_equals_the_installed_sentry_sdk() -> None:
    """Same numbers as sentry_sdk's own function, over many ids and both kinds of interval."""
    utils = pytest.importorskip("sentry_sdk.tracing_utils")
    for i in range(1, 200):
        for low, high in ((0.0, 1.0), (0.0, 0.1), (0.1, 1.0), (0.0, 1e-7)):
            assert sample_rand(i, low, high) == utils._generate_sample_rand(f"{i:032x}", interval=(low, high))


def test_a_head_dsc_has_these_items() -> None:
    """Trace, project, organisation, deployment, decision, name; all strings, six digits of the random
    number."""
    assert dsc_of(segment()) == {
        "trace_id": HEX,
        "public_key": "key",
        "org_id": "7",
        "release": "shop@1",
        "environment": "test",
        "transaction": "GET /users/<int:pk>/",
        "sample_rand": "0.138303",
        "sample_rate": "0.25",
        "sampled": "true",
    }


def test_a_deferred_head_leaves_the_decision_out() -> None:
    """Nobody decided yet: neither `sampled` nor `sample_rate`."""
    assert not {"sampled", "sample_rate"} & set(head_dsc(TRACE, Decision(None, None, 0.5)))


@pytest.mark.parametrize(
    ("name", "source", "kept"),
    [
        ("GET /users/1", "url", False),
        ("GET", "custom", False),
        ("HTTP GET", "route", False),
        ("HTTP", "route", False),
        ("", "custom", False),
        ("shop.tasks.mail", "task", True),
        ("GETTY", "custom", True),
    ],
)
def test_raw_and_provisional_names_stay_out(name: str, source: str, kept: bool) -> None:
    """A name by URL has too many values, a bare method is only what is known before the route."""
    one = segment()
    one.__class__ = type("Renamed", (Named,), {"name": name, "source": source, "__slots__": ()})
    assert ("transaction" in dsc_of(one)) is kept


def test_frozen_at_the_first_look() -> None:
    """Later changes of name do not reach it, and the name is worked out once."""
    one = segment()
    first, asked = dict(dsc_of(one)), Named.asked
    one.decision = Decision(False, 0.5, 0.9)
    assert dsc_of(one) == first and Named.asked == asked and one.frozen_dsc == first


def test_a_continued_dsc_goes_on_as_it_came() -> None:
    """Unknown keys too; our own release and environment are not mixed in."""
    came = {
        "trace_id": HEX,
        "public_key": "other",
        "sample_rate": "0.5",
        "sample_rand": "0.1",
        "replay_id": "r",
    }
    assert dsc_of(segment(remote(**came), Decision(True, 0.5, 0.1))) == came


def test_an_own_decision_overwrites_the_rate_only() -> None:
    """The rate that this service applied is the one that its data must be extrapolated with."""
    came = {
        "trace_id": HEX,
        "public_key": "other",
        "sample_rate": "0.5",
        "sample_rand": "0.1",
        "sampled": "true",
    }
    assert dsc_of(segment(remote(**came), Decision(False, 0.01, 0.1))) == {**came, "sample_rate": "0.01"}


def test_no_dsc_came_so_none_goes() -> None:
    """sentry-trace without baggage: the head is elsewhere, its DSC is frozen empty."""
    assert dsc_of(segment(remote(), Decision(True, 0.5, 0.1))) == {}


def test_a_missing_random_number_is_filled_in_to_agree() -> None:
    """From the trace id, within the part that the decision came from (sentry-python does the same)."""
    assert remote(True, trace_id=HEX, sample_rate="0.25").dsc["sample_rand"] == "0.138303"
    assert remote(None, trace_id=HEX).dsc["sample_rand"] == "0.553213"
    assert "sample_rand" not in remote(True, trace_id=HEX, sample_rate="0").dsc
    assert remote(True, trace_id=HEX, sample_rand="7").dsc["sample_rand"] == "0.553213"


def test_the_dsc_of_another_trace_counts_as_empty() -> None:
    """Doubled or mixed-up headers must not label this trace with another one's."""
    assert remote(True, trace_id="c" * 32, sample_rate="0.5").dsc == {}


@pytest.mark.parametrize(
    ("theirs", "ours", "strict", "result"),
    [
        ("7", "7", False, True),
        ("7", "7", True, True),
        ("8", "7", False, False),
        ("8", "7", True, False),
        (None, "7", False, True),
        (None, "7", True, False),
        ("8", None, False, True),
        ("8", None, True, False),
        (None, None, True, True),
        ("", "", True, True),
    ],
)
def test_strict_continuation(theirs: str | None, ours: str | None, strict: bool, result: bool) -> None:
    """Two organisations never; one unknown only when not strict (spec, Strict Trace Continuation)."""
    assert continues(theirs, ours, strict) is result


@pytest.mark.parametrize(
    ("ot", "rate", "rand"),
    [
        (None, None, None),
        ("", None, None),
        ("th:c", 0.25, None),
        ("th:0", 1.0, None),
        ("th:8;rv:00000000000000", 0.5, 0.999999),
        ("rv:ffffffffffffff", None, 0.0),
        ("rv:80000000000000", None, 0.499999),
        ("th:;rv:1", None, None),
        ("th:zz;x", None, None),
    ],
)
def test_opentelemetrys_own_probability(ot: str | None, rate: float | None, rand: float | None) -> None:
    """th is the share rejected, rv the random number from the other end."""
    assert probability(ot) == (rate, rand)


@given(st.integers(0, 2**56 - 1), st.integers(0, 2**56 - 1))
def test_both_worlds_keep_the_same_traces(rv: int, th: int) -> None:
    """OTel keeps when rv >= th; our numbers say the same, but for the cut to six digits."""
    rate, rand = probability(f"th:{th:014x};rv:{rv:014x}")
    assert rate is not None and rand is not None and 0 <= rand < 1
    if abs(rv - th) > 2**56 / 5e5:
        assert (rand < rate) is (rv >= th)


def test_the_key_never_comes_from_a_bad_dsn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DSN that can't be read leaves the key out; nothing is raised."""
    use(monkeypatch, dsn="not a dsn")
    assert "public_key" not in head_dsc(TRACE, Decision(True))


def test_an_explicit_org_id_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """SENTRY_ORG_ID is for self-hosted servers, whose host names say nothing."""
    use(monkeypatch, org_id="42")
    assert head_dsc(TRACE, Decision(True))["org_id"] == "42"


def w3c(state: str = "", flag: bool = True) -> SpanContext:
    return SpanContext(TRACE, 2, True, TraceFlags(int(flag)), TraceState.from_header([state]))


def test_a_bare_traceparent_is_deferred() -> None:
    """A foreign service's flag is not Sentry's, unless asked for; we become the head."""
    assert dsc.remote_from_w3c(w3c(), {}) == Remote(TRACE, 2, None, {}, False)
    assert dsc.remote_from_w3c(w3c(), {}, w3c_parent="decision").sampled is True
    assert dsc.remote_from_w3c(w3c(flag=False), {}, w3c_parent="decision").sampled is False


def test_our_tracestate_member_outlives_hops_that_drop_baggage() -> None:
    """Decision, rate and random number come back; the head is elsewhere."""
    assert dsc.remote_from_w3c(w3c("sentry=s:1;r:0.25;x:0.1"), {}) == Remote(TRACE, 2, True, {}, True, 0.25, 0.1)


def test_strict_does_not_trust_a_member_alone() -> None:
    """It names no organisation."""
    assert dsc.remote_from_w3c(w3c("sentry=s:1"), {}, strict=True) == Remote(TRACE, 2, None, {}, False)


def test_a_w3c_hop_with_our_dsc() -> None:
    """Taken when it names this trace; the decision is the member's, else the DSC's."""
    items = {"trace_id": HEX, "sampled": "false", "sample_rate": "0.5", "sample_rand": "0.7"}
    assert dsc.remote_from_w3c(w3c(), items) == Remote(TRACE, 2, False, items, True, 0.5, 0.7)
    assert dsc.remote_from_w3c(w3c("sentry=s:1"), items).sampled is True
    assert dsc.remote_from_w3c(w3c(), {**items, "trace_id": "c" * 32}).frozen is False


def test_tracestate_keeps_the_others_and_one_of_ours() -> None:
    """Our member goes first and replaces an older one; the 33rd is dropped."""
    state = TraceState([("dd", "s:1"), ("sentry", "s:0")])
    assert dsc.with_member(state, Decision(True)).to_header() == "sentry=s:1,dd=s:1"
    full = TraceState([(f"k{i}", "1") for i in range(32)])
    assert len(dsc.with_member(full, Decision(True))) == 32
    assert "sentry" not in dsc.with_member(state, Decision(None))
