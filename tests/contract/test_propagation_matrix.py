"""Every kind of incoming header, through the real composite propagator, tracer and sampler, out again.

Source: Sentry develop docs, "Trace Propagation" 1.9 and "Dynamic Sampling Context" 1.3; decisions 1 to 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_sentry import guard, runtime, settings
from otel_sentry.trace import dsc
from otel_sentry.trace.headers import MAX_BYTES, MAX_MEMBERS
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.propagator import SentryPropagator
from otel_sentry.trace.sampler import SentrySampler
from otel_sentry.trace.segment import table

TRACE, SPAN, OTHER_TRACE, OTHER_SPAN = "a" * 32, "b" * 16, "c" * 32, "d" * 16
ALL = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator(), SentryPropagator()])
OWN_RATE = 1.0  # what this service decides itself, it keeps

SOURCES = ("sentry", "w3c", "agree", "differ", "none")
FLAGS = ("sampled", "unsampled", "deferred", "malformed")
BAGGAGE = ("dsc", "empty", "third-party", "mismatch")
MODES = ("pipeline", "stock", "dropping", "pass-through")


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use(monkeypatch)
    yield
    table.clear()


def use(monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> None:
    values: dict[str, Any] = {
        "dsn": "https://key@o7.ingest.example.com/1",
        "release": "ours",
        "environment": "test",
        **overrides,
    }
    monkeypatch.setattr(runtime, "_current", None)
    monkeypatch.setattr(dsc, "_loaded", settings.load({}, **values))


def incoming_dsc(flag: str, org_id: str = "7") -> dict[str, str]:
    """The DSC of a head that is not us."""
    items = {
        "trace_id": TRACE,
        "public_key": "theirs",
        "org_id": org_id,
        "release": "their%20app",
        "sample_rate": "0.25",
    }
    items["sample_rand"] = "0.100000" if flag == "sampled" else "0.900000"
    if flag in ("sampled", "unsampled"):
        items["sampled"] = "true" if flag == "sampled" else "false"
    return items


def headers_for(source: str, flag: str, bag: str) -> dict[str, str]:
    """Real headers. With both kinds of trace headers it is sentry-trace that is malformed."""
    headers = {}
    suffix = {"sampled": "-1", "unsampled": "-0", "deferred": "", "malformed": "-x"}[flag]
    if source in ("sentry", "agree", "differ"):
        headers["sentry-trace"] = f"{TRACE}-{SPAN}{suffix}"
    if source in ("w3c", "agree"):
        headers["traceparent"] = f"00-{TRACE}-{SPAN}-{'00' if flag == 'unsampled' else '01'}"
        if source == "w3c" and flag == "malformed":
            headers["traceparent"] = f"00-{TRACE}-{SPAN}-x"
    if source == "differ":
        headers["traceparent"] = f"00-{OTHER_TRACE}-{OTHER_SPAN}-01"
    members = {
        "dsc": {**incoming_dsc(flag)},
        "empty": {},
        "third-party": {},
        "mismatch": incoming_dsc(flag, "8"),
    }[bag]
    text = [f"sentry-{key}={value}" for key, value in members.items()]
    if bag in ("third-party", "dsc"):
        text = ["user=1", *text, "shop=x%20y"]
    if text:
        headers["baggage"] = ",".join(text)
    return headers


class Expected(NamedTuple):
    """What must have happened. *trace* None: a new trace; *dsc* `head`, `theirs`, `none`."""

    trace: str | None
    parent: str | None
    sampled: bool | None  # before this service decides; None: it decides
    dsc: str


NEW = Expected(None, None, None, "head")


def expected(source: str, flag: str, bag: str) -> Expected:
    """The table, as prose: sentry-trace wins; another organisation is not continued; a bare traceparent is
    deferred."""
    decided = {"sampled": True, "unsampled": False}.get(flag)
    speaks_sentry = source in ("sentry", "agree", "differ") and flag != "malformed"
    if speaks_sentry:
        if bag == "mismatch":
            return NEW
        return Expected(TRACE, SPAN, decided, "theirs" if bag == "dsc" else "none")
    # Only traceparent is left, if anything.
    if source == "differ":  # malformed sentry-trace; the DSC names the trace of the broken header
        return Expected(OTHER_TRACE, OTHER_SPAN, None, "head")
    if source == "agree" or (source == "w3c" and flag != "malformed"):
        if bag == "mismatch":
            return NEW
        if bag == "dsc":
            return Expected(TRACE, SPAN, decided, "theirs")
        return Expected(TRACE, SPAN, None, "head")
    return NEW


class Hop:
    """One service: headers in, one span, headers out."""

    def __init__(self, mode: str, rate: float = OWN_RATE) -> None:
        self.mode = mode
        provider = TracerProvider(sampler=SentrySampler(traces_sample_rate=rate, record_unsampled=mode != "dropping"))
        if mode == "pipeline":
            provider.add_span_processor(SpanPipeline())
        self.tracer = provider.get_tracer("hop")

    def run(self, headers: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        """The span (or, passing through, the remote parent) and the outgoing headers."""
        context = ALL.extract(headers, Context())
        out: dict[str, str] = {}
        if self.mode == "pass-through":
            ALL.inject(out, context)
            return get_current_span(context), out
        span = self.tracer.start_span("work", context)
        ALL.inject(out, set_span_in_context(span, context))
        span.end()
        return span, out


def sentry_items_of(headers: dict[str, str]) -> dict[str, str]:
    members = dict(member.split("=", 1) for member in headers.get("baggage", "").split(",") if member)
    return {key[7:]: value for key, value in members.items() if key.startswith("sentry-")}


def third_party_of(headers: dict[str, str]) -> set[str]:
    return {member for member in headers.get("baggage", "").split(",") if member and not member.startswith("sentry-")}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("source", "flag", "bag"), list(itertools.product(SOURCES, FLAGS, BAGGAGE)))
def test_matrix(mode: str, source: str, flag: str, bag: str) -> None:
    """Trace id, parent, decision and outgoing headers of every combination."""
    want = expected(source, flag, bag)
    span, out = Hop(mode).run(headers_for(source, flag, bag))
    span_context = span.get_span_context()
    if mode == "pass-through" and want.trace is None:
        assert "sentry-trace" not in out and "traceparent" not in out
        return
    trace_id = f"{span_context.trace_id:032x}"

    # Identity: ours, the W3C header's and sentry-trace's are one.
    assert trace_id == want.trace if want.trace else trace_id not in (TRACE, OTHER_TRACE)
    ids = f"{trace_id}-{span_context.span_id:016x}"
    assert out["traceparent"].startswith(f"00-{ids}-")
    if mode == "pipeline":
        assert (f"{span.parent.span_id:016x}" if span.parent else None) == want.parent
    elif mode == "pass-through":
        assert f"{span_context.span_id:016x}" == want.parent

    # The decision: theirs, or ours where they left it open (passing through decides nothing).
    sampled = want.sampled if want.sampled is not None or mode == "pass-through" else True
    assert out["sentry-trace"] == ids + {None: "", True: "-1", False: "-0"}[sampled]
    if mode != "pass-through":
        assert span_context.trace_flags.sampled is sampled

    # The DSC.
    items = sentry_items_of(out)
    if want.dsc == "none":
        assert items == {}
    elif want.dsc == "theirs":
        came = incoming_dsc(flag)
        if want.sampled is None and mode != "pass-through":
            came["sample_rate"] = str(OWN_RATE)
        assert items == came
    else:
        assert items["trace_id"] == trace_id and items["public_key"] == "key" and items["org_id"] == "7"
        assert items["release"] == "ours" and items.get("sampled") == ("true" if sampled else None)
        if sampled:
            assert items["sample_rate"] == "1.0" and float(items["sample_rand"]) < 1
            assert items.get("transaction") == ("work" if mode == "pipeline" else None)

    # Third-party baggage stays whatever becomes of the trace.
    assert third_party_of(out) == ({"user=1", "shop=x+y"} if bag in ("dsc", "third-party") else set())


@pytest.mark.parametrize("flag", ["sampled", "unsampled"])
@pytest.mark.parametrize("mode", MODES)
def test_a_w3c_hop_that_drops_baggage(mode: str, flag: str) -> None:
    """Only traceparent and tracestate survive: the member of the service before brings the decision along."""
    _, first = Hop("stock", OWN_RATE if flag == "sampled" else 0.0).run({})
    _, out = Hop(mode, 0.5).run({"traceparent": first["traceparent"], "tracestate": first["tracestate"]})
    assert first["sentry-trace"][:32] == out["sentry-trace"][:32]
    assert out["sentry-trace"].endswith("-1" if flag == "sampled" else "-0")
    assert "baggage" not in out


def test_a_chain_of_services_agrees() -> None:
    """Ten services with one decision, one DSC, whatever their own rates."""
    _, headers = Hop("pipeline", 1.0).run({})
    first = dict(headers)
    for mode in itertools.islice(itertools.cycle(MODES), 10):
        _, headers = Hop(mode, 0.0).run(headers)
        assert headers["sentry-trace"][:32] == first["sentry-trace"][:32]
        assert headers["sentry-trace"].endswith("-1") and headers["baggage"] == first["baggage"]


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_services_behind_a_foreign_gateway_agree(rate: float) -> None:
    """Bare traceparent to two services: same rate, same trace id, same decision; and the rate is met."""
    one, two, kept, n = Hop("stock", rate), Hop("dropping", rate), 0, 1500
    for i in range(1, n + 1):
        headers = {"traceparent": f"00-{i * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128:032x}-{SPAN}-{i % 2:02x}"}
        a, b = one.run(headers)[1], two.run(headers)[1]
        assert a["sentry-trace"][-2:] == b["sentry-trace"][-2:] != ""
        kept += a["sentry-trace"].endswith("-1")
    assert abs(kept - n * rate) < 4 * (n * rate * (1 - rate)) ** 0.5


@pytest.mark.parametrize(("org_id", "continued"), [("7", True), ("8", False), (None, False)])
def test_strict_continuation(monkeypatch: pytest.MonkeyPatch, org_id: str | None, continued: bool) -> None:
    """SENTRY_STRICT_TRACE_CONTINUATION: only our own organisation's traces, named as such."""
    use(monkeypatch, strict_trace_continuation=True)
    items = {k: v for k, v in incoming_dsc("sampled", org_id or "").items() if v}
    text = ",".join(f"sentry-{key}={value}" for key, value in items.items())
    _, out = Hop("stock").run({"sentry-trace": f"{TRACE}-{SPAN}-1", "baggage": text})
    assert out["sentry-trace"].startswith(TRACE) is continued


def test_the_w3c_flag_can_be_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SENTRY_W3C_PARENT=decision: a bare traceparent's flag is Sentry's decision."""
    use(monkeypatch, w3c_parent="decision")
    for mode in MODES:
        for flag in ("00", "01"):
            _, out = Hop(mode, 0.5).run({"traceparent": f"00-{TRACE}-{SPAN}-{flag}"})
            assert out["sentry-trace"].endswith(f"-{int(flag)}")


def test_doubled_headers_stay_a_pair() -> None:
    """Two senders in one request: the first sentry-trace and the first DSC, not a mixture."""
    headers = {
        "sentry-trace": f"{TRACE}-{SPAN}-1,{OTHER_TRACE}-{OTHER_SPAN}-0",
        "baggage": f"sentry-trace_id={TRACE},sentry-release=one,sentry-trace_id={OTHER_TRACE},sentry-release=two",
    }
    _, out = Hop("stock").run(headers)
    assert sentry_items_of(out)["trace_id"] == TRACE and sentry_items_of(out)["release"] == "one"


# --- Fuzzing ---

_pieces = st.sampled_from(
    [
        TRACE,
        SPAN,
        "0" * 32,
        "0" * 16,
        "-",
        "-1",
        "-0",
        ",",
        ";",
        "=",
        "%",
        "%00",
        "%ff",
        "sentry-",
        "sentry-trace_id=",
        f"sentry-trace_id={TRACE}",
        "sentry-sample_rand=nan",
        "sentry-sample_rate=1e999",
        "sentry-sample_rate=-0",
        "sentry-org_id=8",
        "a=1",
        "00-",
        "sentry=s:1;r:2;x:nan",
        "ot=th:0;rv:0",
        "\r\n",
        "\t",
        " ",
        "x" * 5000,
    ]
)
_text = st.one_of(
    st.lists(st.one_of(_pieces, st.text(st.characters(exclude_categories=("Cs",)), max_size=8)), max_size=12).map(
        "".join
    ),
    st.sampled_from([f"{TRACE}-{SPAN}-1", f"{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-01"]),
)
_NAMES = ("sentry-trace", "baggage", "traceparent", "tracestate")
_any_value = st.one_of(
    _text,
    st.binary(max_size=64),
    st.lists(st.one_of(_text, st.binary(max_size=16), st.none(), st.integers()), max_size=3),
    st.none(),
    st.integers(),
    st.text(max_size=16),
    st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
)


def check(out: dict[str, Any]) -> None:
    assert guard.swallowed == {}
    for name in ("sentry-trace", "baggage"):
        if name in out:
            text = out[name]
            assert text.isascii() and text.isprintable() and len(text) <= MAX_BYTES
            assert text.count(",") < MAX_MEMBERS


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(_NAMES, _text)), st.sampled_from(MODES))
def test_no_text_breaks_it(headers: dict[str, str], mode: str) -> None:
    """Any text in any header: nothing is swallowed, and what goes out is one printable line within the
    limits."""
    _, out = Hop(mode).run(headers)
    check(out)
    _, again = Hop("pipeline").run(out)
    check(again)
    if mode != "pass-through" or "sentry-trace" in out:
        assert again["sentry-trace"][:32] == out["sentry-trace"][:32] or sentry_items_of(out).get("org_id") == "8"


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(_NAMES), _any_value), st.dictionaries(st.sampled_from(_NAMES), _any_value))
def test_no_value_breaks_it(headers: dict[str, Any], carrier: dict[str, Any]) -> None:
    """Bytes, lists, numbers, lone surrogates, in what comes in and in what the outgoing carrier already
    holds."""
    ours = SentryPropagator()
    context = ours.extract(headers, Context())
    span = TracerProvider(sampler=SentrySampler(traces_sample_rate=1.0)).get_tracer("t").start_span("x", context)
    before = dict(carrier)
    ours.inject(carrier, set_span_in_context(span, context))
    check({name: value for name, value in carrier.items() if value is not before.get(name)})
