"""SentryPropagator by itself: odd carriers, targets, suppression, what may be overwritten.

The matrix of headers is in tests/contract/test_propagation_matrix.py.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_sentry import runtime, settings
from otel_sentry.trace import dsc
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.propagator import ENQUEUED_TIME, SentryPropagator
from otel_sentry.trace.sampler import SentrySampler
from otel_sentry.trace.segment import Segment, remote_of, segment_of, table
from otel_sentry.trace.tracestate import Decision

TRACE, SPAN = "a" * 32, "b" * 16
OURS = SentryPropagator()
ALL = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator(), OURS])


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use(monkeypatch)
    yield
    table.clear()


def use(monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> None:
    values: dict[str, Any] = {
        "dsn": "https://key@o7.ingest.example.com/1",
        "release": "r",
        "environment": "test",
        **overrides,
    }
    monkeypatch.setattr(runtime, "_current", None)
    monkeypatch.setattr(dsc, "_loaded", settings.load({}, **values))


def tracer_with(rate: float = 1.0, **options: Any) -> trace.Tracer:
    return TracerProvider(sampler=SentrySampler(traces_sample_rate=rate, **options)).get_tracer("t")


def injected(carrier: dict[str, Any] | None = None, propagator: Any = ALL) -> dict[str, Any]:
    carrier = {} if carrier is None else carrier
    propagator.inject(carrier)
    return carrier


def items(text: str) -> dict[str, str]:
    return dict(member.split("=", 1) for member in text.split(",")) if text else {}


def test_importing_it_is_light() -> None:
    """It loads while opentelemetry.propagate is itself being imported: neither SDK, nor sentry_sdk, nor
    propagate."""
    code = (
        "import sys, otel_sentry.trace.propagator\n"
        "print([m for m in ('opentelemetry.sdk', 'sentry_sdk', 'opentelemetry.propagate',"
        " 'opentelemetry.instrumentation') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_can_be_named_in_the_environment() -> None:
    """OTEL_PROPAGATORS=...,otel_sentry: importing opentelemetry.propagate finds it, without a circular
    import."""
    code = "from opentelemetry import propagate; print(sorted(propagate.get_global_textmap().fields))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={
            "OTEL_PROPAGATORS": "tracecontext,baggage,otel_sentry",
            "PYTHONPATH": ":".join(filter(None, sys.path)),
        },
    )
    if "Propagator otel_sentry not found" in done.stderr:
        pytest.skip("the package is not installed, so its entry points are not there")
    assert done.stdout.strip() == "['baggage', 'sentry-trace', 'traceparent', 'tracestate']", done.stderr


# --- Reading ---


class Wsgi(Getter[dict[str, Any]]):
    """As WSGI's getter reads: upper case, prefix, one string."""

    def get(self, carrier: dict[str, Any], key: str) -> list[str] | None:
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    def keys(self, carrier: dict[str, Any]) -> list[str]:
        return []


class Celery(Getter[Any]):
    """As contrib's: attributes of the request, and no keys at all."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        value = getattr(carrier, key, None)
        return None if value is None else [value]

    def keys(self, carrier: Any) -> list[str]:
        raise AssertionError("never enumerate: Celery's getter has no keys")


def test_read_through_getters_without_keys() -> None:
    """WSGI's and Celery's getters know `get` only."""
    text = f"{TRACE}-{SPAN}-1"
    request = type("Request", (), {"sentry-trace": text, "baggage": "sentry-sample_rate=0.5"})()
    for context in (
        OURS.extract(request, getter=Celery()),
        OURS.extract({"HTTP_SENTRY_TRACE": text}, getter=Wsgi()),
    ):
        span_context = get_current_span(context).get_span_context()
        assert (span_context.trace_id, span_context.span_id) == (int(TRACE, 16), int(SPAN, 16))
        assert span_context.is_remote and span_context.trace_flags.sampled


@pytest.mark.parametrize(
    "value",
    [
        f"{TRACE}-{SPAN}-1",
        f"{TRACE}-{SPAN}-1".encode(),
        [f"{TRACE}-{SPAN}-1"],
        [f"{TRACE}-{SPAN}-1".encode()],
    ],
)
def test_text_bytes_and_lists_are_read(value: Any) -> None:
    """Whatever a message library keeps as header values."""
    remote = remote_of(OURS.extract({"sentry-trace": value}))
    assert remote is not None and remote.sampled is True and remote.frozen and remote.dsc == {}


@pytest.mark.parametrize("value", [None, 5, [None], [5], {}, object(), b"\xff", "nonsense", [], ""])
def test_bad_values_leave_the_context_alone(value: Any) -> None:
    """Nothing raised, nothing set."""
    context = otel_context.set_value("x", 1, Context())
    assert OURS.extract({"sentry-trace": value, "baggage": value}, context) == context


@pytest.mark.allow_swallowed
def test_a_broken_getter_or_setter_does_not_reach_the_program() -> None:
    """The context comes back as it was; the guard counts."""

    class Broken(Getter[Any], Setter[Any]):
        def get(self, carrier: Any, key: str) -> list[str] | None:
            raise RuntimeError("no")

        def keys(self, carrier: Any) -> list[str]:
            return []

        def set(self, carrier: Any, key: str, value: str) -> None:
            raise RuntimeError("no")

    context = otel_context.set_value("x", 1, Context())
    assert OURS.extract({}, context, Broken()) is context
    with tracer_with().start_as_current_span("x"):
        OURS.inject({}, setter=Broken())


def test_the_dsc_leaves_otels_baggage() -> None:
    """Or the baggage propagator would repeat it to any host; third-party items stay."""
    context = ALL.extract({"sentry-trace": f"{TRACE}-{SPAN}-1", "baggage": "a=1,sentry-sample_rate=0.5,b=2"})
    assert baggage.get_all(context) == {"a": "1", "b": "2"}


def test_other_vendors_state_and_flags_stay() -> None:
    """traceparent and sentry-trace of one trace: tracestate and the OR of the flags go on."""
    carrier = {
        "traceparent": f"00-{TRACE}-{SPAN}-03",
        "tracestate": "dd=s:1",
        "sentry-trace": f"{TRACE}-{'c' * 16}-0",
    }
    span_context = get_current_span(ALL.extract(carrier)).get_span_context()
    assert span_context.trace_state["dd"] == "s:1" and span_context.trace_flags == 3
    assert span_context.span_id == int("c" * 16, 16)


def test_an_empty_carrier_keeps_what_was_read_before() -> None:
    """A second extract in the same request (nested middleware) changes nothing."""
    context = ALL.extract({"sentry-trace": f"{TRACE}-{SPAN}-0", "baggage": f"sentry-trace_id={TRACE}"})
    assert ALL.extract({}, context) is context


# --- Writing ---


def test_a_new_trace_is_headed_here() -> None:
    """sentry-trace with the flag, and the whole DSC but the name (no segment knows it here)."""
    with tracer_with(0.5, record_unsampled=False).start_as_current_span("x") as span:
        carrier = injected()
        span_context = span.get_span_context()
    state = span_context.trace_state["sentry"]
    sampled, rand = state[2] == "1", state.rpartition("x:")[2]
    assert carrier["sentry-trace"] == f"{span_context.trace_id:032x}-{span_context.span_id:016x}-{int(sampled)}"
    assert items(carrier["baggage"]) == {
        "sentry-trace_id": f"{span_context.trace_id:032x}",
        "sentry-public_key": "key",
        "sentry-org_id": "7",
        "sentry-release": "r",
        "sentry-environment": "test",
        "sentry-sample_rand": rand,
        "sentry-sample_rate": "0.5",
        "sentry-sampled": str(sampled).lower(),
    }
    assert OURS.fields == {"sentry-trace", "baggage"}


class Named(Segment):
    def name_and_source(self) -> tuple[str, str]:
        return "GET /x", "route"


def test_the_segments_decision_wins() -> None:
    """Decision 4: on a provider with its own sampler our processor decides, so the segment knows, not the
    flags."""
    with TracerProvider(sampler=ALWAYS_ON).get_tracer("t").start_as_current_span("x") as span:
        span_context = span.get_span_context()
        segment = Named(span_context.trace_id, span_context.span_id, None, Decision(False, 0.1, 0.9))
        table.add(span_context, segment)
        carrier = injected()
    assert carrier["sentry-trace"].endswith("-0") and carrier["traceparent"].endswith(("-01", "-03"))
    assert items(carrier["baggage"])["sentry-transaction"] == "GET%20/x" and segment.frozen_dsc is not None


def test_with_the_real_pipeline_the_dsc_has_the_name() -> None:
    """Sampler, pipeline and propagator together: one DSC for the segment, frozen at the first header."""
    provider = TracerProvider(sampler=SentrySampler(traces_sample_rate=1.0))
    provider.add_span_processor(SpanPipeline())
    with provider.get_tracer("t").start_as_current_span("checkout") as root:
        first = injected()
        root.update_name("renamed")
        with provider.get_tracer("t").start_as_current_span("child") as child:
            second = injected()
            segment = segment_of(child.get_span_context())
    assert items(first["baggage"])["sentry-transaction"] == "checkout"
    assert first["baggage"] == second["baggage"] and first["sentry-trace"] != second["sentry-trace"]
    assert segment is not None and segment.frozen_dsc is not None and segment.frozen_dsc["sampled"] == "true"


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_a_foreign_provider_alone_speaks_by_its_flag(sampler: Any) -> None:
    """No segment, no member: what its sampler decided."""
    with TracerProvider(sampler=sampler).get_tracer("t").start_as_current_span("x"):
        assert injected()["sentry-trace"].endswith("-1" if sampler is ALWAYS_ON else "-0")


def test_nothing_without_a_span_or_when_suppressed() -> None:
    """No ids to pass on; or somebody asked for silence."""
    assert injected() == {}
    with tracer_with().start_as_current_span("x"):
        carrier: dict[str, Any] = {}
        OURS.inject(carrier, otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True))
        OURS.inject(carrier, otel_context.set_value("suppress_instrumentation", True))
        assert carrier == {}


@pytest.mark.parametrize("key", ["url.full", "http.url"])
@pytest.mark.parametrize(
    ("targets", "url", "allowed"),
    [
        ((r"\.example\.com",), "http://a.example.com/x", True),
        ((r"\.example\.com",), "http://other.test/", False),
        (("^https://",), "http://a.example.com/", False),
        (("x$", "/api"), "http://a/api/1", True),
    ],
)
def test_propagation_targets(
    monkeypatch: pytest.MonkeyPatch, key: str, targets: tuple[str, ...], url: str, allowed: bool
) -> None:
    """Found anywhere in the client span's URL; other hosts get nothing of ours, third-party baggage apart."""
    use(monkeypatch, trace_propagation_targets=targets)
    with tracer_with().start_as_current_span("x"):
        with tracer_with().start_as_current_span("GET", kind=SpanKind.CLIENT, attributes={key: url}):
            token = otel_context.attach(baggage.set_baggage("a", "1"))
            carrier = injected()
            otel_context.detach(token)
    assert ("sentry-trace" in carrier) is allowed and ("sentry-" in carrier["baggage"]) is allowed
    assert "a=1" in carrier["baggage"]


@pytest.mark.parametrize("kind", [SpanKind.PRODUCER, SpanKind.SERVER])
def test_targets_are_asked_for_client_urls_only(monkeypatch: pytest.MonkeyPatch, kind: SpanKind) -> None:
    """A queue has no URL; a server span's URL is its own, not where the headers go."""
    use(monkeypatch, trace_propagation_targets=("nowhere",))
    with tracer_with().start_as_current_span("x", kind=kind, attributes={"url.full": "http://me/"}):
        assert "sentry-trace" in injected()
    with tracer_with().start_as_current_span("x", kind=SpanKind.CLIENT):
        assert "sentry-trace" in injected()


def test_publishing_writes_the_time_and_replaces_old_headers() -> None:
    """Celery's retry sends the first message's headers again: all of ours are renewed, third-party baggage
    stays."""
    old = {
        "sentry-trace": f"{TRACE}-{SPAN}-1",
        "baggage": "a=1,sentry-release=old",
        ENQUEUED_TIME: "1.0",
        "lang": "py",
    }
    before = time.time()
    with tracer_with().start_as_current_span("apply_async/x", kind=SpanKind.PRODUCER) as span:
        carrier = injected(dict(old))
    assert carrier["sentry-trace"].startswith(f"{span.get_span_context().trace_id:032x}")
    assert items(carrier["baggage"])["sentry-release"] == "r" and items(carrier["baggage"])["a"] == "1"
    assert before <= float(carrier[ENQUEUED_TIME]) <= time.time() and carrier["lang"] == "py"
    with tracer_with().start_as_current_span("x", kind=SpanKind.CLIENT):
        assert ENQUEUED_TIME not in injected()


@pytest.mark.parametrize("name", ["sentry-trace", "Sentry-Trace"])
def test_a_header_of_another_trace_set_by_the_program_stays(name: str) -> None:
    """Whoever passes on somebody else's trace by hand means it."""
    theirs = {name: f"{TRACE}-{SPAN}-1", "baggage": f"sentry-trace_id={TRACE}"}
    with tracer_with().start_as_current_span("x"):
        assert injected(dict(theirs), OURS) == theirs


def test_a_header_of_this_trace_is_renewed() -> None:
    """Injected twice (two instrumentations over each other): the inner span's ids, once."""
    tracer = tracer_with()
    with tracer.start_as_current_span("outer"):
        carrier = injected()
        with tracer.start_as_current_span("inner") as inner:
            injected(carrier)
    assert f"-{inner.get_span_context().span_id:016x}-" in carrier["sentry-trace"]
    assert carrier["baggage"].count("sentry-trace_id") == 1


@pytest.mark.parametrize("junk", ["", "nonsense", 5])
def test_a_malformed_header_in_the_carrier_is_replaced(junk: Any) -> None:
    """It would continue nothing."""
    with tracer_with().start_as_current_span("x"):
        assert injected({"sentry-trace": junk})["sentry-trace"].endswith("-1")


def test_third_party_baggage_of_carrier_and_context() -> None:
    """What the program wrote (any case), and what the baggage propagator wrote, comes before the DSC."""
    with tracer_with().start_as_current_span("x"):
        by_hand = injected({"Baggage": "user=1;p=2,sentry-release=old"}, OURS)
        assert list(by_hand) == ["Baggage", "sentry-trace"]
        assert by_hand["Baggage"].startswith("user=1;p=2,sentry-trace_id=") and "old" not in by_hand["Baggage"]
        token = otel_context.attach(baggage.set_baggage("k", "v w"))
        assert injected()["baggage"].startswith("k=v+w,sentry-trace_id=")
        otel_context.detach(token)


def test_write_only_carriers_get_the_contexts_baggage() -> None:
    """Kafka's lists of pairs can't be read back: third-party items are taken from the context instead."""

    class Append(Setter[Any]):
        def set(self, carrier: Any, key: str, value: str) -> None:
            carrier.append((key, value))

    carrier: list[tuple[str, str]] = []
    with tracer_with().start_as_current_span("x"):
        token = otel_context.attach(baggage.set_baggage("k", "v"))
        OURS.inject(carrier, setter=Append())
        otel_context.detach(token)
    written = dict(carrier)
    assert list(written) == ["sentry-trace", "baggage"] and written["baggage"].startswith("k=v,sentry-trace_id=")


def test_carriers_with_values_of_a_shape_of_their_own() -> None:
    """SQS attributes are dicts; what can't be read is not lost, the context's items are written again."""

    class Sqs(Setter[Any]):
        def set(self, carrier: Any, key: str, value: str) -> None:
            carrier[key] = {"StringValue": value, "DataType": "String"}

    carrier: dict[str, Any] = {}
    with tracer_with().start_as_current_span("x"):
        token = otel_context.attach(baggage.set_baggage("k", "v"))
        ALL.inject(carrier, setter=Sqs())
        otel_context.detach(token)
    assert carrier["baggage"]["StringValue"].startswith("k=v,sentry-trace_id=")


def test_non_string_keys_do_no_harm() -> None:
    """Message headers may have any keys."""
    with tracer_with().start_as_current_span("x"):
        assert "sentry-trace" in injected({5: 1, b"baggage": b"x", None: 2})  # type: ignore[dict-item]
