"""Traces to Sentry's own OTLP intake: the words of span v2, OpenTelemetry's encoding, our sender's care."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_sentry import bootstrap, counters, settings
from otel_sentry.cli.envelope import parse_envelope
from otel_sentry.sentry import otlp
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.sentry.formats import encode
from otel_sentry.sentry.sender import Envelope, Ready, Sender, sentry_target
from otel_sentry.sentry.transaction import Common
from otel_sentry.trace.segment import Segment
from tests.support.sentry_otlp import KEY, SentryWithOtlp
from tests.support.story import shop_story, wide_segment

COMMON = Common(release="r1", environment="dev", resource={"service.name": "shop"}, format="otlp")


@pytest.fixture(scope="module")
def story() -> list[Segment]:
    return shop_story()


def decoded(envelopes: list[Envelope]) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Each span, its attributes, and its resource's."""
    found = []
    for one in envelopes:
        assert one.via == "otlp"
        request = ExportTraceServiceRequest.FromString(one.body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                found += [(s, _plain(s.attributes), _plain(resource.resource.attributes)) for s in scope.spans]
    return found


def _plain(pairs: Any) -> dict[str, Any]:
    def value(one: Any) -> Any:
        kind = one.WhichOneof("value")
        return [value(item) for item in one.array_value.values] if kind == "array_value" else getattr(one, kind)

    return {pair.key: value(pair.value) for pair in pairs}


def test_the_same_story_as_span_v2(story: list[Segment]) -> None:
    """Ids, parents, names, attributes, statuses and links are those of the span-v2 format; times are exact."""
    for segment in story:
        envelopes = encode(segment, dataclasses.replace(COMMON, format="span"))
        v2 = {
            span["span_id"]: span for one in envelopes for i in parse_envelope(one.body)[1] for span in i.json["items"]
        }
        spans = decoded(encode(segment, COMMON))
        assert {span.span_id.hex() for span, _, _ in spans} == set(v2)
        for span, attributes, resource in spans:
            other = v2[span.span_id.hex()]
            assert (span.name, span.trace_id.hex()) == (other["name"], other["trace_id"])
            assert span.parent_span_id.hex() == other.get("parent_span_id", "")
            assert attributes == {key: one["value"] for key, one in other["attributes"].items()}
            assert (span.status.code == span.status.STATUS_CODE_ERROR) == (other["status"] == "error")
            assert abs(span.start_time_unix_nano / 1e9 - other["start_timestamp"]) < 1e-5
            assert [link.span_id.hex() for link in span.links] == [one["span_id"] for one in other.get("links", ())]
            assert not span.events and not span.trace_state
            assert resource["service.name"] == "shop"


def test_nothing_private_leaves(story: list[Segment]) -> None:
    """It is scrubbed as every format is: no secret of URLs or headers, no address; the resource has no arguments."""
    common = dataclasses.replace(COMMON, resource={"service.name": "shop", "process.command_args": ["--password=x"]})
    bodies = b"".join(one.body for segment in story for one in encode(segment, common))
    for secret in (b"hunter2", b"192.0.2.7", b"process.command_args", b"--password"):
        assert secret not in bodies


def test_many_spans_leave_in_several_requests() -> None:
    """512 spans for each request, each counted as what it holds."""
    made = encode(wide_segment(1199), COMMON)
    assert [one.categories for one in made] == [(("span", 512),), (("span", 512),), (("span", 176),)]
    assert len({span.span_id for span, _, _ in decoded(made)}) == 1200


def test_target_is_made_of_the_dsn() -> None:
    """Endpoint and header follow from the DSN, below its path."""
    target = otlp.target(Dsn.parse("https://abc@sentry.example.test:9000/some/path/42"))
    assert target.url == "https://sentry.example.test:9000/some/path/api/42/integration/otlp/v1/traces/"
    assert target.headers["x-sentry-auth"] == "sentry sentry_key=abc"


def _sender(sentry: SentryWithOtlp) -> Sender:
    dsn = Dsn.parse(sentry.dsn)
    return Sender([sentry_target(dsn), otlp.target(dsn)])


def test_headers_of_another_backend_do_not_leak(monkeypatch: pytest.MonkeyPatch, story: list[Segment]) -> None:
    """OTEL_EXPORTER_OTLP_HEADERS is another backend's affair: Sentry gets its own header only."""
    monkeypatch.setitem(os.environ, "OTEL_EXPORTER_OTLP_HEADERS", "api-key=other-backend,authorization=Bearer%20other")
    monkeypatch.setitem(os.environ, "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-team=other-backend")
    with SentryWithOtlp() as sentry:
        sender = _sender(sentry)
        for one in encode(story[0], COMMON):
            sender.put(Ready(one))
        sender.close(5)
    (headers,) = sentry.headers
    assert headers["x-sentry-auth"] == f"sentry sentry_key={KEY}"
    assert headers["content-type"] == "application/x-protobuf"
    assert not {"api-key", "authorization", "x-team"} & set(headers) and "other" not in str(headers)


def test_outage_loses_nothing(story: list[Segment]) -> None:
    """A 503 is tried again, as for envelopes; envelopes and reports never go to the OTLP intake."""
    with SentryWithOtlp() as sentry:
        sentry.statuses = [503, 200]
        sender = _sender(sentry)
        counters.lost("sample_rate", "span", 3)
        for one in encode(story[0], COMMON):
            sender.put(Ready(one))
        deadline = time.monotonic() + 10
        while not sentry.spans and time.monotonic() < deadline:
            sender.flush(0.5)
        sender.close(5)
    assert len(sentry.spans) == len(story[0].spans) + 1 and len(sentry.headers) == 2
    (report,) = sentry.payloads("client_report")
    assert report["discarded_events"] == [{"reason": "sample_rate", "category": "span", "quantity": 3}]
    assert sender.stats.delivered["span"] == len(sentry.spans)


def test_intake_that_is_not_there_is_counted(story: list[Segment]) -> None:
    """A self-hosted Sentry without OTLP answers 404: the loss is counted and said once."""
    with SentryWithOtlp(404) as sentry:
        sender = _sender(sentry)
        for one in encode(story[0], COMMON):
            sender.put(Ready(one))
        sender.flush(5)
        assert counters.drain() == [("network_error", "span", len(story[0].spans) + 1)]
        sender.close(1)


@pytest.mark.parametrize(("there", "wanted"), [(True, "otlp"), (False, "transaction")])
def test_without_the_encoder_transactions_are_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: bool, wanted: str
) -> None:
    """Where OpenTelemetry's OTLP packages are missing one line says so, and traces arrive all the same."""
    monkeypatch.setattr(otlp, "installed", lambda: there)
    loaded = settings.load({"OTEL_SENTRY_TRACE_FORMAT": "otlp"}, dsn="https://k@h.example.test/1", environment="dev")
    assert bootstrap._trace_format(loaded) == wanted
    assert capsys.readouterr().err.count("otel-sentry[otlp]") == (not there)


def test_without_dsn_there_is_one_format() -> None:
    """Spotlight alone gets transactions, whatever the format is set to."""
    assert (
        bootstrap._trace_format(settings.load({"OTEL_SENTRY_TRACE_FORMAT": "otlp"}, environment="dev")) == "transaction"
    )
