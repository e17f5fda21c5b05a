"""Span v2: single spans in envelopes of their own, as Sentry's own JavaScript packages take them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from otel_sentry import counters
from otel_sentry.cli.envelope import parse_envelope
from otel_sentry.convention.names_v2 import RENAMED, attributes_v2, name_v2
from otel_sentry.sentry import span_v2
from otel_sentry.sentry.formats import encode
from otel_sentry.sentry.sender import Envelope
from otel_sentry.sentry.transaction import Common
from otel_sentry.trace.segment import Segment
from tests.support.relay import assert_relay_ok
from tests.support.sentry_js import assert_js_ok
from tests.support.story import SQL, shop_story, wide_segment

COMMON = Common(
    release="shop@1.2.3",
    environment="staging",
    server_name="web-1",
    dist="7",
    resource={"service.name": "shop"},
    format="span",
)
DSC = {"public_key": "key", "sample_rate": "0.5", "sampled": "true"}


@pytest.fixture(scope="module")
def story() -> list[Segment]:
    """The shop's segments; their DSC as with a DSN."""
    segments = shop_story()
    for segment in segments:
        segment.frozen_dsc = {"trace_id": format(segment.trace_id, "032x"), **DSC}
    return segments


def items(envelopes: list[Envelope]) -> list[dict[str, Any]]:
    """The spans in *envelopes*, whose framing, counts and headers are right."""
    found = []
    for one in envelopes:
        header, (item,) = parse_envelope(one.body)
        spans = item.json["items"]
        assert item.headers["content_type"] == "application/vnd.sentry.items.span.v2+json"
        assert item.headers["item_count"] == len(spans) <= 1000
        assert one.categories == (("span", len(spans)),)
        assert {span["trace_id"] for span in spans} == {header["trace"]["trace_id"]}
        found += spans
    return found


def values(span: dict[str, Any]) -> dict[str, Any]:
    """The attributes without their types."""
    return {key: one["value"] for key, one in span["attributes"].items()}


def test_sentrys_javascript_takes_them(story: list[Segment]) -> None:
    """Every envelope of the story: framing, DSC, attribute names and types, ops, none of them deprecated."""
    assert_js_ok(one.body for segment in story for one in encode(segment, COMMON))


def test_javascript_check_finds_faults(story: list[Segment]) -> None:
    """The check is no rubber stamp: a deprecated name, a wrong type and a missing trace header are found."""
    from tests.support.sentry_js import findings

    segment = story[0]
    body = encode(segment, COMMON)[0].body.replace(b'"db.system.name"', b'"db.system"')
    found = " ".join(
        findings([body.replace(b'"thread.id"', b'"x"').replace(b'"trace":{"trace_id"', b'"tr":{"trace_id"')])
    )
    assert "db.system is deprecated" in found and "no trace header" in found


def test_request(story: list[Segment]) -> None:
    """The segment's span: name, status, ids, and all that a transaction says beside its spans."""
    spans = items(encode(story[0], COMMON))
    (root,) = [span for span in spans if span["is_segment"]]
    data = values(root)
    assert (root["name"], root["status"], spans[-1]) == ("POST /posts/<int:pk>/", "error", root)
    assert data["sentry.segment.id"] == root["span_id"] and "parent_span_id" not in root
    assert (data["sentry.segment.name"], data["sentry.segment.name.source"]) == (root["name"], "route")
    assert (data["sentry.op"], data["sentry.origin"], data["sentry.kind"]) == (
        "http.server", "auto.http.otel.django", "server",
    )  # fmt: skip
    assert (data["sentry.release"], data["sentry.environment"], data["sentry.dist"]) == ("shop@1.2.3", "staging", "7")
    assert (data["sentry.sdk.name"], data["service.name"]) == ("sentry.python.otel_sentry", "shop")
    assert (data["user.id"], data["plan"], data["http.request.header.x-request-id"]) == ("42", "pro", ["abc"])
    assert data["shop.flags"] == ["a", "b"] and root["attributes"]["shop.flags"]["type"] == "array"
    assert "hunter2" not in json.dumps(spans) and "192.0.2.7" not in json.dumps(spans)


def test_names(story: list[Segment]) -> None:
    """2.8: names are of low cardinality, by the conventions' templates; the user's own spans keep theirs."""
    named = {span["name"]: values(span) for segment in story for span in items(encode(segment, COMMON))}
    assert set(named) == {
        "POST /posts/<int:pk>/", "SELECT shop", "GET", "GET /{unmatched}", "GET cache:6379", "cache.get",
        "publish images", "render preview", "resize", "send mail", "shop.render",
    }  # fmt: skip
    assert named["SELECT shop"]["db.query.text"] == SQL
    assert named["cache.get"]["sentry.description"] == "post:3"


def test_page_without_route_has_one_name(story: list[Segment]) -> None:
    """A raw path is no name: all that no route matches have one; the path stays an attribute."""
    (span,) = items(encode(story[-1], COMMON))
    assert (span["name"], span["is_segment"], span["status"]) == ("GET /{unmatched}", True, "error")
    assert values(span)["sentry.segment.name"] == "GET /{unmatched}"
    assert values(span)["url.path"] == "/no/such/page"


def test_late_child_is_one_more_span_of_its_segment(story: list[Segment]) -> None:
    """4: what ends after its segment had left is no segment of its own here."""
    first, late = story[0], story[1]
    (span,) = items(encode(late, COMMON))
    root = format(first.span_id, "016x")
    assert (span["name"], span["is_segment"], span["parent_span_id"]) == ("send mail", False, root)
    assert values(span)["sentry.segment.id"] == root
    assert "sentry.segment.name.source" not in values(span)


def test_links(story: list[Segment]) -> None:
    """Links keep their ids and flags, and their attributes are typed."""
    spans = {span["name"]: span for segment in story for span in items(encode(segment, COMMON))}
    (link,) = spans["resize"]["links"]
    assert link["span_id"] == spans["publish images"]["span_id"] and link["sampled"] is True
    assert link["attributes"] == {"why": {"value": "retry", "type": "string"}}
    assert spans["shop.render"]["links"][0]["trace_id"] == spans["publish images"]["trace_id"]


def test_shadow(story: list[Segment]) -> None:
    """Both formats tell the same story: ids, parents, times, ops, origins, statuses, descriptions, data, links."""
    for segment in story:
        (old,) = encode(segment, dataclasses.replace(COMMON, format="transaction"))
        _, (item,) = parse_envelope(old.body)
        event = item.json
        assert_relay_ok(event)
        trace = event["contexts"]["trace"]
        root = {**trace, "start_timestamp": event["start_timestamp"], "timestamp": event["timestamp"]}
        new = {span["span_id"]: span for span in items(encode(segment, COMMON))}
        assert set(new) == {span["span_id"] for span in [root, *event["spans"]]}
        for span in [root, *event["spans"]]:
            _same(span, new[span["span_id"]])
        head, data = new[trace["span_id"]], values(new[trace["span_id"]])
        assert event["transaction"] in (head["name"], data.get("sentry.description"))
        assert event["user"]["id"] == data["user.id"] if "user" in event else "user.id" not in data
        assert event.get("tags", {}).items() <= data.items()
        assert event["contexts"]["otel"]["resource"].items() <= data.items()


def _same(old: dict[str, Any], new: dict[str, Any]) -> None:
    for key in ("trace_id", "span_id", "start_timestamp"):
        assert old[key] == new[key]
    assert (old["parent_span_id"], old["timestamp"]) == (new.get("parent_span_id"), new["end_timestamp"])
    assert (old["status"] in ("ok", "cancelled")) == (new["status"] == "ok")
    data = values(new)
    assert (old.get("op"), old["origin"]) == (data.get("sentry.op"), data["sentry.origin"])
    if old.get("description"):
        assert old["description"] in (new["name"], data.get("sentry.description"), data.get("db.query.text"))
    for key, value in attributes_v2(old["data"]).items():
        assert data[key] == value, key
    assert len(old.get("links", ())) == len(new.get("links", ()))
    for one, other in zip(old.get("links", ()), new.get("links", ()), strict=True):
        assert {k: v for k, v in one.items() if k != "attributes"} == {
            k: v for k, v in other.items() if k != "attributes"
        }
        assert one.get("attributes", {}) == values({"attributes": {}, **other})


# Envelopes


def test_a_thousand_spans_each() -> None:
    """2500 spans leave in three envelopes of one trace, each with the DSC, all of one segment."""
    segment = wide_segment(2499)
    segment.frozen_dsc = {"trace_id": format(segment.trace_id, "032x"), **DSC}
    made = encode(segment, COMMON)
    assert [one.categories for one in made] == [(("span", 1000),), (("span", 1000),), (("span", 500),)]
    spans = items(made)
    assert len({span["span_id"] for span in spans}) == 2500
    assert {values(span)["sentry.segment.id"] for span in spans} == {format(segment.span_id, "016x")}
    assert {values(span)["sentry.segment.name"] for span in spans} == {"import"}
    assert [span["name"] for span in spans if span["is_segment"]] == ["import"]
    assert_js_ok(one.body for one in made)


def test_byte_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """An envelope is closed before its items pass the bound (Relay takes 12 MiB)."""
    monkeypatch.setattr(span_v2, "MAX_BYTES", 50_000)
    made = encode(wide_segment(200, text="x" * 2000), COMMON)
    assert len(made) > 8 and all(len(one.body) < 51_000 for one in made)
    assert len({span["span_id"] for span in items_of(made)}) == 201


def items_of(envelopes: list[Envelope]) -> list[dict[str, Any]]:
    return [span for one in envelopes for item in parse_envelope(one.body)[1] for span in item.json["items"]]


def test_trace_without_dsc_gets_ours() -> None:
    """A trace continued without baggage has no DSC; Relay takes no span v2 without one, so the envelope gets ours."""
    from otel_sentry import runtime, settings
    from otel_sentry.runtime import Runtime

    segment = wide_segment(1)
    segment.frozen_dsc = {}
    loaded = settings.load({}, dsn="https://public@o123.ingest.example.test/42", environment="dev")
    runtime.set_current(Runtime(loaded, None, None, None, None))  # type: ignore[arg-type]
    try:
        (made,) = encode(segment, COMMON)
    finally:
        runtime.set_current(None)
    header, _ = parse_envelope(made.body)
    assert header["trace"]["public_key"] == "public"
    assert_js_ok([made.body])


def test_hooks_and_counts() -> None:
    """The transaction hook sees the segment in this format too (it is often the scrubber); what it drops is spans."""
    segment = wide_segment(3)

    def cut(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        event["spans"] = event["spans"][:1]
        event["spans"][0]["data"]["number"] = "hidden"
        return event

    spans = items_of(encode(segment, dataclasses.replace(COMMON, before_send_transaction=cut)))
    assert len(spans) == 2 and values(spans[0])["number"] == "hidden"
    assert counters.drain() == [("before_send", "span", 2)]
    assert encode(segment, dataclasses.replace(COMMON, before_send_transaction=lambda event, hint: None)) == []
    assert counters.drain() == [("before_send", "span", 4)]


def test_pii_and_user() -> None:
    """E-mail, name and address of the user with PII only, on every span."""
    segment = wide_segment(1)
    segment.user = {"id": 42, "email": "a@example.com", "username": "ann", "user_type": "admin"}
    without = [values(span) for span in items_of(encode(segment, COMMON))]
    assert all(span["user.id"] == "42" and "user.email" not in span for span in without)
    having = [values(span) for span in items_of(encode(segment, dataclasses.replace(COMMON, pii=True)))]
    assert all((span["user.email"], span["user.name"]) == ("a@example.com", "ann") for span in having)


# Types and names


@pytest.mark.parametrize(
    ("value", "kind", "wire"),
    [
        (True, "boolean", True), (3, "integer", 3), (0.5, "double", 0.5), ("x", "string", "x"), ([], "array", []),
        ([1, 2], "array", [1, 2]), ([1, "a"], "string", '[1,"a"]'), ({"a": 1}, "string", '{"a":1}'),
        ([[1]], "string", "[[1]]"), ([1, None], "string", "[1,null]"),
    ],
)  # fmt: skip
def test_types(value: Any, kind: str, wire: Any) -> None:
    """Attributes say their type; what the protocol has no type for is its JSON."""
    assert span_v2.typed({"key": value}) == {"key": {"value": wire, "type": kind}}


@pytest.mark.parametrize(
    ("op", "data", "name"),
    [
        (
            "http.client",
            {"http.request.method": "GET", "url.template": "/users/{id}", "url.full": "x"},
            "GET /users/{id}",
        ),
        ("http.client", {"http.request.method": "GET", "url.full": "https://a/1"}, "GET"),
        ("http.client.prefetch", {}, "HTTP"),
        ("db", {"db.query.summary": "SELECT users", "db.operation.name": "SELECT"}, "SELECT users"),
        ("db", {"db.operation.name": "SELECT", "db.collection.name": "users", "db.namespace": "n"}, "SELECT users"),
        ("db.redis", {"db.operation.name": "GET", "server.address": "r", "server.port": 6379}, "GET r:6379"),
        ("db", {"db.system.name": "postgresql"}, "postgresql"),
        ("db", {}, "Database operation"),
        ("queue.process", {"messaging.operation.type": "process", "messaging.destination.name": "q"}, "process q"),
        ("queue.task.celery", {}, "Messaging"),
        ("graphql.query", {"graphql.operation.type": "query"}, "GraphQL query"),
        ("gen_ai.invoke_agent", {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, "invoke_agent a"),
        ("gen_ai.chat", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, "chat m"),
        ("cache.put", {"cache.key": ["k"]}, "cache.put"),
        ("function", {}, ""),
        (None, {}, ""),
    ],
)
def test_templates(op: str | None, data: dict[str, Any], name: str) -> None:
    """2.8: the first template that resolves."""
    assert name_v2(op, data) == name


def test_names_of_attributes() -> None:
    """Names that the conventions deprecate are replaced, and known attributes have the conventions' types."""
    given = {
        "db.system": "redis", "messaging.message.receive.latency": 12.6, "thread.id": "12", "user.id": 42,
        "cache.key": "k", "sentry.parent_span_already_sent": True, "empty": None, "mine": 1.0,
    }  # fmt: skip
    assert attributes_v2(given) == {
        "db.system.name": "redis", "messaging.message.receive.latency": 13, "thread.id": 12, "user.id": "42",
        "cache.key": ["k"], "mine": 1.0,
    }  # fmt: skip
    assert not set(RENAMED) & set(RENAMED.values())
