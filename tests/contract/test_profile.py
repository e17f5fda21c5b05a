"""A transaction that names its profile, checked by Sentry's own Relay library."""

from __future__ import annotations

import json
import uuid
from typing import Any

from otel_sentry.sentry.profiling import Profile
from otel_sentry.sentry.transaction import Common, encode
from otel_sentry.trace.segment import Segment
from tests.contract.test_transaction import request_segment
from tests.support.relay import assert_relay_ok


def transaction(segment: Segment) -> dict[str, Any]:
    """The payload of the segment's envelope."""
    made = encode(segment, Common(release="shop@1", environment="production"))
    assert made is not None
    payload: dict[str, Any] = json.loads(made.body.split(b"\n")[2])
    return payload


def test_profile_context_and_threads() -> None:
    """The profiler's id is in `contexts.profile`; root and spans name their thread as sentry_sdk does: id as a text."""
    segment = request_segment()
    profile = segment.profile = Profile()
    profile.profiler_id = uuid.uuid4().hex
    assert segment.root is not None
    for number, span in enumerate([segment.root, *segment.spans]):
        profile.threads[span.context.span_id] = (140298822675328 + number, None if number else "MainThread")
    event = transaction(segment)
    assert_relay_ok(event)
    assert event["contexts"]["profile"] == {"profiler_id": profile.profiler_id}
    data = event["contexts"]["trace"]["data"]
    assert (data["thread.id"], data["thread.name"]) == ("140298822675328", "MainThread")
    for span in event["spans"]:
        assert span["data"]["thread.id"] == str(profile.threads[int(span["span_id"], 16)][0])
        assert "thread.name" not in span["data"]


def test_without_a_profiler_there_is_no_trace_of_it() -> None:
    """A segment that was drawn but ended before the profiler ran looks like any other."""
    segment = request_segment()
    segment.profile = Profile()
    event = transaction(segment)
    assert "profile" not in event["contexts"]
    assert "thread.id" not in event["contexts"]["trace"]["data"]
