"""What one request tells sentry_sdk never reaches the next (decision 13)."""

from __future__ import annotations

import asyncio
import threading
import timeit
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
import sentry_sdk
from opentelemetry.trace import SpanKind

from otel_sentry.sentry import client, events
from otel_sentry.sentry.isolation import drop
from otel_sentry.trace.segment import current_segment
from tests.support.client import Sentry, sentry_sdk_set_up
from tests.unit.test_client import capture, raised


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up() as one:
        assert client.ensure()
        yield one


def users(sentry: Sentry) -> list[Any]:
    return [(event.get("user") or {}).get("id") for event in sentry.events]


def test_requests_on_one_thread(sentry: Sentry) -> None:
    """A user set in one request is on its errors, and not on those of the next request of the same thread."""
    with sentry.tracer.start_as_current_span("one"):
        sentry_sdk.set_user({"id": "alice"})
        sentry_sdk.set_tag("only", "one")
        sentry_sdk.add_breadcrumb(message="crumb of one")
        capture(raised(ValueError("1")))
    with sentry.tracer.start_as_current_span("two"):
        capture(raised(ValueError("2")))
    capture(raised(ValueError("outside")))
    assert users(sentry) == ["alice", None, None]
    assert [(event.get("tags") or {}).get("only") for event in sentry.events] == ["one", None, None]
    assert [len(event["breadcrumbs"]["values"]) for event in sentry.events] == [2, 0, 0]


def test_requests_begin_with_an_empty_trail(sentry: Sentry) -> None:
    """What the process logged before is of others (Celery's "Task ... received"); a plain block keeps it."""
    sentry_sdk.add_breadcrumb(message="of another task")
    for kind in (SpanKind.CONSUMER, SpanKind.INTERNAL):
        with sentry.tracer.start_as_current_span("one", kind=kind):
            capture(raised(ValueError(kind.name)))
    found = [[crumb["message"] for crumb in event["breadcrumbs"]["values"]] for event in sentry.events]
    assert ["of another task" in messages for messages in found] == [False, True]


def test_the_applications_own_capture(sentry: Sentry) -> None:
    """The same holds for sentry_sdk's own capture calls, nested spans included."""
    with sentry.tracer.start_as_current_span("one"):
        with sentry.tracer.start_as_current_span("inner"):
            sentry_sdk.set_user({"id": "alice"})
        sentry_sdk.capture_message("one")
    with sentry.tracer.start_as_current_span("two"):
        sentry_sdk.capture_message("two")
    assert users(sentry) == ["alice", None]


def test_what_holds_for_the_process_stays(sentry: Sentry) -> None:
    """Tags set outside of any request are on the errors of every request."""
    sentry_sdk.set_tag("region", "eu")
    with sentry.tracer.start_as_current_span("one"):
        sentry_sdk.set_tag("region", "us")
        capture(raised(ValueError("1")))
    with sentry.tracer.start_as_current_span("two"):
        capture(raised(ValueError("2")))
    assert [event["tags"]["region"] for event in sentry.events] == ["us", "eu"]


def test_scopes_that_the_application_enters(sentry: Sentry) -> None:
    """`isolation_scope` and `new_scope` inside a request hold inside their block only."""
    with sentry.tracer.start_as_current_span("one"):
        with sentry_sdk.isolation_scope() as scope:
            scope.set_user({"id": "bob"})
            with sentry_sdk.new_scope() as inner:
                inner.set_tag("deep", "yes")
                capture(raised(ValueError("1")))
        capture(raised(ValueError("2")))
    assert users(sentry) == ["bob", None]
    assert [(event.get("tags") or {}).get("deep") for event in sentry.events] == ["yes", None]


def test_a_scope_entered_and_never_left(sentry: Sentry) -> None:
    """A scope set for good inside a request (`set_isolation_scope`) ends with that request."""
    from sentry_sdk.scope import Scope

    with sentry.tracer.start_as_current_span("one"):
        scope = Scope.get_isolation_scope().fork()
        scope.set_user({"id": "bob"})
        Scope.set_isolation_scope(scope)
        capture(raised(ValueError("1")))
    with sentry.tracer.start_as_current_span("two"):
        capture(raised(ValueError("2")))
    assert users(sentry) == ["bob", None]


def test_a_scope_around_a_request(sentry: Sentry) -> None:
    """A scope entered before the root span is what the request begins with."""
    with sentry_sdk.isolation_scope() as scope:
        scope.set_user({"id": "carol"})
        with sentry.tracer.start_as_current_span("one"):
            sentry_sdk.set_tag("a", "b")
            capture(raised(ValueError("1")))
        assert sentry_sdk.get_isolation_scope() is scope
    assert users(sentry) == ["carol"]


def test_thread_pool(sentry: Sentry) -> None:
    """Threads that are used again carry nothing from job to job."""

    def job(number: int) -> None:
        with sentry.tracer.start_as_current_span("job"):
            before = sentry_sdk.get_isolation_scope()
            if number % 2:
                sentry_sdk.set_user({"id": str(number)})
            assert sentry_sdk.get_isolation_scope() is before
            capture(raised(ValueError(str(number))))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(job, range(20)))
    found = {event["exception"]["values"][-1]["value"]: (event.get("user") or {}).get("id") for event in sentry.events}
    assert found == {str(number): (str(number) if number % 2 else None) for number in range(20)}


def test_a_thread_of_the_request(sentry: Sentry) -> None:
    """A thread that runs in the request's context shares its scope; one without it does not."""

    def work() -> None:
        capture(raised(ValueError("in thread")))

    with sentry.tracer.start_as_current_span("one"):
        sentry_sdk.set_user({"id": "alice"})
        for target in (copy_context().run, lambda function: function()):
            thread = threading.Thread(target=target, args=(work,))
            thread.start()
            thread.join()
    assert users(sentry) == ["alice", None]


def test_asyncio_tasks(sentry: Sentry) -> None:
    """Requests that interleave on one event loop keep their users apart; a task of theirs shares them."""

    async def child() -> None:
        sentry_sdk.set_tag("child", "yes")

    async def request(name: str) -> None:
        with sentry.tracer.start_as_current_span(name):
            sentry_sdk.set_user({"id": name})
            await asyncio.sleep(0.001)
            await asyncio.create_task(child())
            capture(raised(ValueError(name)))

    async def main() -> None:
        await asyncio.gather(*(request(str(number)) for number in range(10)))

    asyncio.run(main())
    for event in sentry.events:
        assert event["user"]["id"] == event["exception"]["values"][-1]["value"]
        assert event["tags"]["child"] == "yes"


def test_an_untouched_request_costs_nothing(sentry: Sentry) -> None:
    """Without a call to sentry_sdk a segment gets no scope."""
    with sentry.tracer.start_as_current_span("one"):
        segment = current_segment()
    assert segment is not None
    assert segment.isolation_scope is None and segment.current_scope is None


def test_cost_of_a_look_up(sentry: Sentry) -> None:
    """Reading the scope inside a request costs microseconds (the bound suits a busy machine)."""
    with sentry.tracer.start_as_current_span("one"):
        sentry_sdk.get_isolation_scope()
        took = min(timeit.repeat(sentry_sdk.get_isolation_scope, number=2000, repeat=5)) / 2000
    assert took < 50e-6


def test_a_dropped_segment_holds_no_scope(sentry: Sentry) -> None:
    """`drop` lets go of both scopes."""
    with sentry.tracer.start_as_current_span("one"):
        segment = current_segment()
        sentry_sdk.set_tag("a", "b")
        assert segment is not None and segment.isolation_scope is not None
        drop(segment)
        assert segment.isolation_scope is None


def test_transactions_take_the_scope(sentry: Sentry) -> None:
    """User, tags and contexts that the app set in the request are on its transaction."""
    with sentry.tracer.start_as_current_span("one"):
        segment = current_segment()
        sentry_sdk.set_user({"id": "alice"})
        sentry_sdk.set_tag("plan", "pro")
        sentry_sdk.set_context("cart", {"items": 3})
    assert segment is not None
    event = {"type": "transaction", "contexts": {"trace": {"op": "x"}}, "tags": {"kept": "yes"}, "spans": []}
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(events.apply_scope(segment, dict(event))))
    thread.start()
    thread.join()
    assert found == [
        {
            **event,
            "user": {"id": "alice"},
            "tags": {"kept": "yes", "plan": "pro"},
            "contexts": {"trace": {"op": "x"}, "cart": {"items": 3}},
        }
    ]


def test_transactions_of_an_untouched_segment(sentry: Sentry) -> None:
    """A segment that never met sentry_sdk leaves its transaction as it is."""
    with sentry.tracer.start_as_current_span("one"):
        segment = current_segment()
    assert segment is not None
    event = {"type": "transaction", "spans": []}
    assert events.apply_scope(segment, event) == {"type": "transaction", "spans": []}


def test_event_processors_on_transactions(sentry: Sentry) -> None:
    """The app's event processors, global and of the request's scope, see transactions and may drop them."""
    from sentry_sdk.scope import add_global_event_processor

    def everywhere(event: Any, hint: Any) -> Any:
        event["extra"] = {"seen": True}
        return event

    add_global_event_processor(everywhere)
    with sentry.tracer.start_as_current_span("one"):
        segment = current_segment()
        sentry_sdk.get_isolation_scope().add_event_processor(
            lambda event, hint: None if event["transaction"] == "/health" else event
        )
    assert segment is not None
    kept = events.apply_scope(segment, {"type": "transaction", "transaction": "/shop", "spans": [1, 2]})
    assert kept is not None and kept["extra"] == {"seen": True}
    assert events.apply_scope(segment, {"type": "transaction", "transaction": "/health", "spans": [1, 2]}) is None
