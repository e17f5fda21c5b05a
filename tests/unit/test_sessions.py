"""Release health: what is a session, how it went, and when the counts leave."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from otel_sentry.sentry import sessions, takeover
from otel_sentry.sentry.client import capture_exception, capture_message
from otel_sentry.sentry.sender import Sender
from otel_sentry.trace.pipeline import SpanPipeline
from tests.support.client import Sentry, sentry_sdk_set_up

RELEASE = "shop@1"


@pytest.fixture(autouse=True)
def _from_zero() -> Iterator[None]:
    sessions.reset()
    yield
    sessions.reset()


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up(release=RELEASE) as one:
        one.runtime.pipeline._on_finish = sessions.count
        yield one


def items(one: Sentry) -> list[dict[str, Any]]:
    """The payloads of all sessions items."""
    return [
        payload for envelope in one.sender.envelopes for head, payload in envelope.items if head["type"] == "sessions"
    ]


def totals(one: Sentry) -> dict[str, int]:
    """Sessions by status, over all items and minutes."""
    sessions.send()
    found: dict[str, int] = {}
    for item in items(one):
        for aggregate in item["aggregates"]:
            for status, quantity in aggregate.items():
                if status != "started":
                    found[status] = found.get(status, 0) + quantity
    return found


def request(one: Sentry, exc: BaseException | None = None, handled: bool = True) -> None:
    """A request; *exc* is reported in it."""
    with one.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
        if exc is not None:
            capture_exception(exc, handled=handled, mechanism="test")


def test_statuses(sentry: Sentry) -> None:
    """A handled exception makes a session errored, an unhandled one crashed; all others exited."""
    for _ in range(3):
        request(sentry)
    request(sentry, ValueError("seen to"))
    request(sentry, ValueError("not"), handled=False)
    assert totals(sentry) == {"exited": 3, "errored": 1, "crashed": 1}


def test_logged_first_then_unhandled(sentry: Sentry) -> None:
    """An exception that was logged on its way out is one issue, and the session has crashed all the same."""
    exc = ValueError("logged and raised")
    with sentry.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
        capture_exception(exc, handled=True, mechanism="logging")
        capture_exception(exc, handled=False, mechanism="django")
    assert len(sentry.events) == 1
    assert totals(sentry) == {"crashed": 1}


@pytest.mark.parametrize(("level", "status"), [("info", "exited"), ("warning", "exited"), ("error", "errored")])
def test_messages(sentry: Sentry, level: str, status: str) -> None:
    """A message is an error of its session from level error on."""
    with sentry.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
        capture_message("said", level=level)
    assert totals(sentry) == {status: 1}


def test_errors_that_sampling_leaves_out_count() -> None:
    """SENTRY_SAMPLE_RATE thins out the events, not the health of the release (as in sentry_sdk)."""
    with sentry_sdk_set_up(release=RELEASE, sample_rate=0.0) as one:
        one.runtime.pipeline._on_finish = sessions.count
        request(one, ValueError("left out"), handled=False)
        assert one.events == []
        assert totals(one) == {"crashed": 1}


def test_errors_that_the_hook_drops_do_not_count() -> None:
    """What before_send drops was no error (as in sentry_sdk)."""
    with sentry_sdk_set_up(release=RELEASE, before_send=lambda event, hint: None) as one:
        one.runtime.pipeline._on_finish = sessions.count
        request(one, ValueError("dropped"), handled=False)
        assert totals(one) == {"exited": 1}


def test_only_requests_that_we_serve(sentry: Sentry) -> None:
    """Tasks, commands and spans inside of a request are no sessions."""
    for kind in (SpanKind.CONSUMER, SpanKind.INTERNAL, SpanKind.CLIENT):
        with sentry.tracer.start_as_current_span("no", kind=kind):
            pass
    outer = sentry.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER)
    with outer, sentry.tracer.start_as_current_span("GET / again", kind=SpanKind.SERVER):
        pass
    assert totals(sentry) == {"exited": 1}


def test_an_applications_own_init_may_turn_it_off(sentry: Sentry) -> None:
    """`sentry_sdk.init(auto_session_tracking=False)` in the application counts; sentry_sdk itself never counts."""
    import sentry_sdk

    takeover.install_import_hook()
    sentry_sdk.init()
    assert sentry_sdk.get_client().options["auto_session_tracking"] is False
    request(sentry)
    assert totals(sentry) == {"exited": 1}
    sentry_sdk.init(auto_session_tracking=False)
    request(sentry)
    assert totals(sentry) == {"exited": 1}


@pytest.mark.parametrize("wanted", [{}, {"release": RELEASE, "auto_session_tracking": False}])
def test_off(wanted: dict[str, Any]) -> None:
    """Without a release, or with SENTRY_AUTO_SESSION_TRACKING=0, nothing is sent."""
    with sentry_sdk_set_up(**wanted) as one:
        one.runtime.pipeline._on_finish = sessions.count
        request(one)
        assert totals(one) == {}


def test_a_minute_is_one_item(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted within a minute leaves together, urgently, after it; a flush does not wait for that."""
    put: list[Any] = []
    monkeypatch.setattr(sentry.sender, "put", lambda item, urgent=False: put.append((item, urgent)))
    for _ in range(100):
        request(sentry)
    ((errand, urgent),) = put
    assert not urgent and 59 < errand.not_before - time.monotonic() <= 60
    errand.encode()
    ((item, urgent),) = put[1:]
    assert urgent and item.categories == (("session", 100),)
    request(sentry)
    assert len(put) == 3 and put[2][0].not_before > 0  # the next minute


def test_many_minutes_are_bounded(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that began in thousands of different minutes do not pile up."""
    monkeypatch.setattr(sessions, "MAX_BUCKETS", 10)
    for minute in range(35):
        started = time.time_ns() - minute * 60 * 10**9
        sentry.tracer.start_span("GET /", kind=SpanKind.SERVER, start_time=started).end()
    assert len(sessions._counts) <= 11
    assert totals(sentry) == {"exited": 35}


def test_flush_sends_and_a_fork_starts_empty() -> None:
    """A flush of a real sender takes what was counted along; a forked child does not send its parent's."""
    with sentry_sdk_set_up(release=RELEASE) as one:
        one.runtime.sender = sender = Sender([])
        pipeline = SpanPipeline(on_finish=sessions.count)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(pipeline)
        provider.get_tracer("t").start_span("GET /", kind=SpanKind.SERVER).end()
        child = os.fork()
        if child == 0:
            os._exit(len(sessions._counts))
        assert os.waitpid(child, 0)[1] == 0
        assert len(sessions._counts) == 1
        sender.flush(2.0)
        assert len(sessions._counts) == 0
        sender.close(1.0)


def test_as_sentry_sdk_makes_it(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The item equals what sentry_sdk's own flusher makes of the same sessions."""
    monkeypatch.setattr(sessions, "_covered_until", 2**63)  # nothing leaves before the end
    import sentry_sdk.session
    import sentry_sdk.sessions

    captured: list[Any] = []
    flusher = sentry_sdk.sessions.SessionFlusher(captured.append)
    for status, errors in (("exited", 0), ("exited", 0), ("exited", 1), ("crashed", 1)):
        session = sentry_sdk.session.Session(
            release=RELEASE, environment="production", errors=errors, session_mode="request"
        )
        session.close(status=status)  # type: ignore[arg-type]
        flusher.add_aggregate_session(session)
    flusher.flush()
    (theirs,) = captured[0].items
    request(sentry)
    request(sentry)
    request(sentry, ValueError("seen to"))
    request(sentry, ValueError("not"), handled=False)
    sessions.send()
    envelope = next(one for one in sentry.sender.envelopes if one.items[0][0]["type"] == "sessions")
    head, ours = envelope.items[0]
    expected = json.loads(theirs.get_bytes())
    if len(ours["aggregates"]) == 1:  # otherwise the minute changed between two requests
        times = {one["aggregates"][0]["started"] for one in (ours, expected)}
        assert {time.strptime(one, "%Y-%m-%dT%H:%M:00.000000Z") for one in times}
        ours["aggregates"][0]["started"] = expected["aggregates"][0]["started"]
        assert ours == expected
    assert {key: head[key] for key in theirs.headers if key != "length"} == {
        key: value for key, value in theirs.headers.items() if key != "length"
    }
