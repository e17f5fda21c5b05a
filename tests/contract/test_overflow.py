"""What does not fit into a transaction: it leaves as span v2 of the same segment, or the least telling is dropped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry import bootstrap, counters, runtime, settings
from otel_sentry.cli.envelope import parse_envelope
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.sentry.formats import encode
from otel_sentry.sentry.outgoing import Ready
from otel_sentry.sentry.sender import Envelope
from otel_sentry.sentry.transaction import Common
from otel_sentry.trace.pipeline import SegmentItem
from tests.support.relay import assert_relay_ok
from tests.support.sentry_js import assert_js_ok
from tests.support.story import wide_segment

SAAS = "https://public@o123.ingest.us.sentry.io/42"
OWN = "https://public@sentry.example.test/42"


@pytest.fixture
def common(request: pytest.FixtureRequest) -> Iterator[Common]:
    """What `configure` makes of the settings in the test's parameters."""
    loaded = settings.load({}, environment="dev", release="r1", **request.param)
    runtime.set_current(runtime.Runtime(loaded, Dsn.parse(str(loaded.dsn)), None, None, None))  # type: ignore[arg-type]
    bootstrap._common_for.cache_clear()
    yield dataclasses.replace(bootstrap._common(), apply_scope=None)
    runtime.set_current(None)


def parts(envelopes: list[Envelope]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The one transaction, and the span-v2 items beside it."""
    (event,) = [i.json for one in envelopes for i in parse_envelope(one.body)[1] if i.type == "transaction"]
    spans = [i.json["items"] for one in envelopes for i in parse_envelope(one.body)[1] if i.type == "span"]
    return event, [span for chunk in spans for span in chunk]


@pytest.mark.parametrize(
    ("dsn", "wanted", "overflows"),
    [
        (SAAS, "auto", True), ("https://k@sentry.io/1", "auto", True), ("https://k@notsentry.io/1", "auto", False),
        (OWN, "auto", False), (OWN, "span", True), (SAAS, "drop", False),
    ],
)  # fmt: skip
def test_auto_is_for_sentrys_own_service(dsn: str, wanted: str, overflows: bool) -> None:
    """`auto` sends span v2 only to hosts that are sure to take it; the setting has the last word."""
    assert bootstrap._overflows(settings.load({}, dsn=dsn, overflow=wanted), Dsn.parse(dsn)) is overflows


@pytest.mark.parametrize("common", [{"dsn": SAAS}], indirect=True)
def test_five_thousand_spans_lose_none(common: Common) -> None:
    """A transaction with 1000 of 5000 spans, the rest as span v2: together all, none twice, none counted as lost."""
    segment = wide_segment(5000)
    made = encode(segment, common)
    event, overflow = parts(made)
    inside = [span["span_id"] for span in event["spans"]]
    outside = [span["span_id"] for span in overflow]
    assert (len(inside), len(outside)) == (1000, 4000)
    wanted = {format(span.context.span_id, "016x") for span in segment.spans if span.context is not None}
    assert len(wanted) == 5000 and wanted == {*inside, *outside}
    assert counters.snapshot() == {}
    assert sum(one.categories[-1][1] for one in made) == 5001
    assert "sentry.dropped_span_count" not in event["contexts"]["trace"]["data"]
    assert_relay_ok(event)
    assert_js_ok(one.body for one in made)


@pytest.mark.parametrize("common", [{"dsn": SAAS}], indirect=True)
def test_overflow_belongs_to_the_segment(common: Common) -> None:
    """Overflow names the root as its segment and the transaction as its name; the tree is that of the program."""
    segment = wide_segment(1500)
    made = encode(segment, common)
    event, overflow = parts(made)
    root = event["contexts"]["trace"]["span_id"]
    for span in overflow:
        assert span["attributes"]["sentry.segment.id"]["value"] == root and not span["is_segment"]
        assert span["attributes"]["sentry.segment.name"]["value"] == event["transaction"] == "import"
        assert span["attributes"]["sentry.release"]["value"] == "r1"
    headers = [parse_envelope(one.body)[0] for one in made]
    assert all(header["trace"] == headers[0]["trace"] for header in headers)
    parents = {span["span_id"]: span["parent_span_id"] for span in [*event["spans"], *overflow]}
    for finished in segment.spans:
        assert finished.context is not None and finished.parent is not None
        span_id, parent_id = finished.context.span_id, finished.parent.span_id
        assert parents[format(span_id, "016x")] == format(parent_id, "016x")


@pytest.mark.parametrize("common", [{"dsn": SAAS}], indirect=True)
def test_failed_spans_stay_in_the_transaction(common: Common) -> None:
    """What is worth most is chosen for the transaction: every failed span is in it."""
    event, overflow = parts(encode(wide_segment(3000), common))
    assert sum(span["status"] != "ok" for span in event["spans"]) == 30
    assert all(span["status"] == "ok" for span in overflow)


@pytest.mark.parametrize("common", [{"dsn": SAAS}], indirect=True)
def test_bytes_overflow_too(common: Common) -> None:
    """600 large spans (1.5 MB) pass the byte bound, not the count: the same, nothing is lost."""
    made = encode(wide_segment(600, text="x" * 2500), common)
    event, overflow = parts(made)
    assert len(made[0].body) < 900_000
    assert len(event["spans"]) + len(overflow) == 600 and len(overflow) > 200
    assert len({span["span_id"] for span in [*event["spans"], *overflow]}) == 600


@pytest.mark.parametrize("common", [{"dsn": OWN}], indirect=True)
def test_elsewhere_the_rest_is_dropped_with_a_count(common: Common) -> None:
    """`auto` on a self-hosted Sentry: 1000 spans by value, the others counted in the report and on the root."""
    made = encode(wide_segment(1500), common)
    event, overflow = parts(made)
    assert len(made) == 1 and len(event["spans"]) == 1000 and overflow == []
    assert event["contexts"]["trace"]["data"]["sentry.dropped_span_count"] == 500
    assert counters.drain() == [("buffer_overflow", "span", 500)]


@pytest.mark.parametrize("common", [{"dsn": SAAS}], indirect=True)
def test_small_segment_is_one_transaction(common: Common) -> None:
    """Where all fits there is one envelope, as ever."""
    assert [one.categories for one in encode(wide_segment(3), common)] == [(("transaction", 1), ("span", 4))]


@pytest.mark.parametrize("common", [{"dsn": SAAS}], indirect=True)
def test_hook_sees_every_span_once(common: Common) -> None:
    """before_send_transaction gets the whole segment before it is divided: no span goes past the user's scrubber."""
    seen: list[int] = []

    def scrub(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        seen.append(len(event["spans"]))
        for span in event["spans"]:
            span["data"]["number"] = "hidden"
        return event

    event, overflow = parts(encode(wide_segment(1200), dataclasses.replace(common, before_send_transaction=scrub)))
    assert seen == [1200]
    assert {span["data"]["number"] for span in event["spans"]} == {"hidden"}
    assert {span["attributes"]["number"]["value"] for span in overflow} == {"hidden"}


def test_the_rest_is_queued_behind_the_first() -> None:
    """The queue's item gives its first envelope and puts the others, each with its own size and categories."""
    made = [
        Envelope(b"one", (("transaction", 1),)),
        Envelope(b"two", (("span", 2),)),
        Envelope(b"three", (("span", 3),)),
    ]
    queued: list[Ready] = []
    item = SegmentItem(wide_segment(1), lambda segment: made, 0.1, queued.append)
    assert item.encode() == made[0]
    assert [(one.encode(), one.size, one.categories) for one in queued] == [
        (made[1], 3, (("span", 2),)), (made[2], 5, (("span", 3),)),
    ]  # fmt: skip


@pytest.mark.parametrize(("transactions", "categories"), [(True, ["transaction", "span"]), (False, ["span"])])
def test_what_a_lost_segment_counts_as(transactions: bool, categories: list[str]) -> None:
    """As single spans a segment is no transaction: a limit on transactions does not hold it back."""
    item = SegmentItem(wide_segment(1), lambda segment: None, 0.1, lambda item: None, transactions)
    assert [category for category, _ in item.categories] == categories
