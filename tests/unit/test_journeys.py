"""User journeys: which one is meant, how it ends, what is stored and measured, and that no call breaks anything."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.sessions.backends.base import SessionBase
from opentelemetry import context as otel_context

from otel_sentry import ambient, errors, guard, runtime, user_journey
from otel_sentry.ambient import journey as journeys_here
from otel_sentry.ambient.journey import Here, Journey, unpack
from otel_sentry.business import journey_store, metrics, store, worker
from otel_sentry.business.memory import Memory
from otel_sentry.cli.receiver import Receiver
from otel_sentry_django import journeys as django_journeys
from tests.support.odd import Odd
from tests.support.wire import Wire, trace, wired

Measured = list[tuple[str, dict[str, Any], Any]]


@pytest.fixture
def wire(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    worker._after_fork()
    store._chosen = None
    journey_store._anonymous.clear()
    journey_store._overdue.clear()
    monkeypatch.setattr(journey_store, "_next_sweep", 0.0)
    token = journeys_here._outside.set(None)
    with wired(receiver, store="memory") as one:
        yield one
        worker.close(1.0)
    journeys_here._outside.reset(token)
    store._chosen = None


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """What was measured, in its order: name, labels, value."""
    found: Measured = []
    count = lambda name, value=1, /, **labels: found.append((name, labels, value))  # noqa: E731
    distribution = lambda name, value, unit=None, /, **labels: found.append((name, labels, value))  # noqa: E731
    monkeypatch.setattr(metrics, "count", count)
    monkeypatch.setattr(metrics, "distribution", distribution)
    return found


def kept() -> list[dict[str, Any]]:
    assert worker.flush(5.0)
    return journey_store.read()


def documents() -> list[dict[str, Any]]:
    assert worker.flush(5.0)
    one = store.get()
    return [document for name in one.names("journey:", 100) if (document := one.load(name))]


def test_the_guides_sample(wire: Wire, measured: Measured) -> None:
    """The sample of the guide, which names the user at the start only, is one completed journey, data scrubbed."""
    user_journey.start_journey("user_registration", user_id="123")
    user_journey.add_step("email_validation", {"email": "user@example.com"})
    user_journey.add_step("profile_creation", {"user_type": "customer"})
    user_journey.complete_journey(success=True, final_data={"user_id": "456"})
    (found,) = documents()
    assert (found["name"], found["outcome"], found["implicit"]) == ("user_registration", "completed", False)
    assert [(step["step"], step["data"]) for step in found["steps"]] == [
        ("email_validation", {"email": "[Filtered]"}),
        ("profile_creation", {"user_type": "customer"}),
    ]
    assert found["user"] not in (None, "123")
    assert [(name, labels) for name, labels, _ in measured if name in ("journey.completed", "journey.step")] == [
        ("journey.step", {"name": "user_registration", "step": "email_validation"}),
        ("journey.step", {"name": "user_registration", "step": "profile_creation"}),
        ("journey.completed", {"name": "user_registration", "outcome": "completed"}),
    ]


def test_durations(wire: Wire, measured: Measured) -> None:
    """Each step lasts from the one before; the whole from start to end."""
    user_journey.start_journey("a", user_id=1)
    time.sleep(0.03)
    user_journey.add_step("one")
    time.sleep(0.06)
    user_journey.add_step("two")
    user_journey.complete_journey()
    (found,) = kept()
    one, two = found["durations_s"]
    assert 0.03 <= one < two
    assert found["duration_s"] >= one + two >= 0.09
    values = {(name, labels.get("step")): value for name, labels, value in measured}
    assert values["journey.step.duration", "two"] == two
    assert values["journey.duration", None] == found["duration_s"]


def test_failed_and_where_it_was_left(wire: Wire, measured: Measured) -> None:
    """`success=False` is "failed"; the step it came to last is counted as the drop-off."""
    user_journey.start_journey("a")
    user_journey.add_step("address")
    user_journey.complete_journey(success=False)
    (found,) = kept()
    assert found["outcome"] == "failed"
    assert ("journey.drop_off", {"name": "a", "step": "address"}, 1) in measured


def test_abandoned(wire: Wire, measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody completed it in time: the next call, of any journey, notices."""
    user_journey.start_journey("a", user_id=1, timeout_s=0)  # at least a second
    assert worker.flush(5.0)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 20.0)
    user_journey.start_journey("b", user_id=2)
    first, second = kept()
    assert (first["outcome"], first["duration_s"]) == ("abandoned", pytest.approx(1.0))
    assert second["outcome"] is None
    assert ("journey.completed", {"name": "a", "outcome": "abandoned"}, 1) in measured
    assert len(store.get().names("journeys-of:", 10)) == 1


def test_abandoned_while_the_store_goes_away(wire: Wire, measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that notices is made again, and what it has ended is measured, once."""
    user_journey.start_journey("a", user_id=1, timeout_s=0)
    assert worker.flush(5.0)
    now, real, failures = time.time, Memory.unschedule, [True]

    def unschedule(self: Memory, key: str, member: str) -> None:
        if failures:
            failures.pop()
            raise store.Unavailable
        real(self, key, member)

    monkeypatch.setattr(Memory, "unschedule", unschedule)
    monkeypatch.setattr(time, "time", lambda: now() + 20.0)
    user_journey.start_journey("b", user_id=2)
    worker.flush(5.0)
    assert worker.flush(5.0) and failures == []
    assert measured.count(("journey.completed", {"name": "a", "outcome": "abandoned"}, 1)) == 1


def test_found_by_name_by_context_and_by_user(wire: Wire) -> None:
    """A name wins; without one it is that of this request; elsewhere the only open one of the user."""
    with wire.tracer.start_as_current_span("request 1"):
        user_journey.start_journey("first", user_id="u")
        user_journey.start_journey("second", user_id="u")
        user_journey.add_step("in second")
        user_journey.add_step("in first", name="first")
        user_journey.add_step("in first too")
        user_journey.complete_journey(name="second")
    assert worker.flush(5.0)
    with wire.tracer.start_as_current_span("request 2"):
        user_journey.add_step("by user", user_id="u")
        user_journey.add_step("here again")
    assert {one["name"]: one["steps"] for one in kept()} == {
        "first": ["in first", "in first too", "by user", "here again"],
        "second": ["in second"],
    }


def test_a_short_one_does_not_hide_a_long_one(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's journeys stay findable each for its own time."""
    for name, timeout_s in (("long", 3600), ("short", 1)):
        with wire.tracer.start_as_current_span("request"):
            user_journey.start_journey(name, user_id="u", timeout_s=timeout_s)
    assert worker.flush(5.0)
    now, wall = time.monotonic, time.time
    monkeypatch.setattr(time, "monotonic", lambda: now() + 60.0)
    monkeypatch.setattr(time, "time", lambda: wall() + 60.0)
    with wire.tracer.start_as_current_span("request"):
        user_journey.add_step("on", name="long", user_id="u")
    assert {one["name"]: (one["steps"], one["outcome"]) for one in kept()} == {
        "long": (["on"], None), "short": ([], "abandoned"),
    }  # fmt: skip


def test_one_that_has_ended_is_not_waited_for(wire: Wire) -> None:
    """What is scheduled to be noticed as abandoned is what is open: its number is bounded."""
    for number in range(3):
        with wire.tracer.start_as_current_span("request"):
            user_journey.start_journey("a", user_id=number)
            if number:
                user_journey.complete_journey()
    assert worker.flush(5.0)
    assert len(store.get().due("journeys-due:all", time.time() + 10**6, 10)) == 1


def test_clocks_of_several_hosts(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step by a clock that is behind lasts no negative time."""
    with wire.tracer.start_as_current_span("request"):
        user_journey.start_journey("a")
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - 10.0)
        user_journey.add_step("early")
        user_journey.complete_journey()
    (document,) = documents()
    found = journey_store.summary(document)
    assert found["durations_s"] == [0.0] and found["duration_s"] == 0.0


def test_the_current_user_counts(wire: Wire) -> None:
    """`set_user` says whose journey it is, at the start and later."""
    for step in (None, "later"):
        with wire.tracer.start_as_current_span("request"):
            ambient.set_user({"id": 5})
            user_journey.add_step(step) if step else user_journey.start_journey("a")
        assert worker.flush(5.0)
    (found,) = kept()
    assert (found["steps"], found["implicit"]) == (["later"], False)


def test_two_users_are_kept_apart(wire: Wire) -> None:
    """A step for another user, in the same request, is not the journey of this one."""
    with wire.tracer.start_as_current_span("request"):
        user_journey.start_journey("a", user_id="1")
        user_journey.start_journey("a", user_id="2")
        user_journey.add_step("of one", user_id="1")
        user_journey.add_step("of two", user_id="2")
    assert [one["steps"] for one in kept()] == [["of one"], ["of two"]]


def test_of_several_the_one_used_last(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    """Several open ones and no name: the one used last, and one line."""
    for name in ("a", "b"):
        with wire.tracer.start_as_current_span("request"):
            user_journey.start_journey(name, user_id="u")
    with wire.tracer.start_as_current_span("request"):
        user_journey.add_step("here", name="a", user_id="u")
    assert worker.flush(5.0)
    with wire.tracer.start_as_current_span("request"):
        user_journey.add_step("again", user_id="u")
    assert {one["name"]: one["steps"] for one in kept()} == {"a": ["here", "again"], "b": []}
    assert capsys.readouterr().err.count("2 journeys are open") == 1


def test_implicit(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    """A step without a start, or after the end, begins a journey that is marked; an end alone is left out."""
    with wire.tracer.start_as_current_span("request"):
        user_journey.add_step("from nowhere", name="a")
        user_journey.complete_journey()
        user_journey.add_step("after the end")
        user_journey.add_step("and more")
    with wire.tracer.start_as_current_span("request"):
        user_journey.complete_journey(user_id="nobody")
    found = kept()
    assert [(one["name"], one["implicit"], one["steps"], one["outcome"]) for one in found] == [
        ("a", True, ["from nowhere"], "completed"),
        ("a", True, ["after the end", "and more"], None),
    ]
    said = capsys.readouterr().err
    assert said.count("one is begun, marked as implicit") == 1
    assert said.count("complete_journey: no journey is open here") == 1


def test_a_task_goes_on_after_the_end(wire: Wire) -> None:
    """A task that had the journey in its message makes steps after its end: one new journey, not one for each step."""
    with wire.tracer.start_as_current_span("request"):
        user_journey.start_journey("a")
        message = ambient.carried()
        user_journey.complete_journey()
    assert worker.flush(5.0)
    time.sleep(0.002)
    for _ in range(2):
        token = otel_context.attach(ambient.restore(message))
        with wire.tracer.start_as_current_span("task"):
            user_journey.add_step("late")
        otel_context.detach(token)
    assert [(one["implicit"], one["steps"]) for one in kept()] == [(False, []), (True, ["late", "late"])]


def test_steps_are_in_the_order_of_their_times(wire: Wire) -> None:
    """Calls that reach the store in another order make the same journey: steps before the start, the end in between."""
    calls: list[Any] = []
    real, worker.submit = worker.submit, lambda function, *args: bool(calls.append((function, args))) or True  # type: ignore[assignment]
    try:
        user_journey.start_journey("a", user_id="u", data={"from": "mail"})
        for step in ("one", "two", "three"):
            time.sleep(0.002)
            user_journey.add_step(step)
        time.sleep(0.002)
        user_journey.complete_journey()
    finally:
        worker.submit = real  # type: ignore[assignment]
    for index in (2, 4, 1, 0, 3, 3):  # one is even made twice
        function, args = calls[index]
        worker.submit(function, *args)
    (found,) = documents()
    assert [step["step"] for step in found["steps"]] == ["one", "two", "three"]
    assert (found["outcome"], found["implicit"], found["data"]) == ("completed", False, {"from": "mail"})


def test_spans_say_so_and_are_joined(wire: Wire) -> None:
    """Steps are span events, the span names the journey; one in another trace links to the step before."""
    with wire.tracer.start_as_current_span("request"):
        user_journey.start_journey("a", user_id="u")
        user_journey.add_step("one", {"plan": "pro"})
        message = ambient.carried()
    token = otel_context.attach(ambient.restore(message))
    with wire.tracer.start_as_current_span("task"):
        user_journey.add_step("two")
    otel_context.detach(token)
    with wire.tracer.start_as_current_span("by user") as span:
        user_journey.add_step("three", user_id="u")
        assert worker.flush(5.0)
        span.set_attribute("found", True)
    events = wire.by_name()
    request, task, by_user = (trace(events[name]) for name in ("request", "task", "by user"))
    assert task["data"]["journey.id"] == request["data"]["journey.id"] == by_user["data"]["journey.id"]
    assert (task["data"]["journey.name"], task["data"]["journey.step"]) == ("a", "two")
    assert any('"journey.data.plan":"pro"' in one for one in request["data"]["otel.events"])
    assert "links" not in request
    assert [(one["trace_id"], one["span_id"]) for one in task["links"]] == [(request["trace_id"], request["span_id"])]
    assert [one["trace_id"] for one in by_user["links"]] == [task["trace_id"]]


def test_errors_carry_the_journey(wire: Wire) -> None:
    """An issue's business context names journey and step."""
    with wire.tracer.start_as_current_span("request"):
        user_journey.start_journey("a")
        user_journey.add_step("payment")
        errors.capture_custom_exception(ValueError("card"))
    wire.flush()
    (event,) = wire.receiver.events
    shown = event["contexts"]["business_context"]
    assert (shown["journey"], shown["journey_step"]) == ("a", "payment")
    assert shown["journey_id"] == kept()[0]["id"]


class FakeSession(dict[str, Any]):
    """What a session's owner sees: how often it was written."""

    writes = 0

    def __setitem__(self, key: str, value: Any) -> None:
        self.writes += 1
        super().__setitem__(key, value)


def test_the_session_keeps_it_for_the_next_request(wire: Wire) -> None:
    """Written once a journey, not at each step; read by the next request; forgotten at the end."""
    session = FakeSession()
    for step in ("one", "two"):
        with wire.tracer.start_as_current_span("request"):
            _with_session(session)
            user_journey.add_step(step) if step == "two" else user_journey.start_journey("a")
            user_journey.add_step(f"then {step}")
    assert session.writes == 1
    assert all(len(value) < 400 for value in session.values())
    with wire.tracer.start_as_current_span("request"):
        _with_session(session)
        user_journey.complete_journey()
    assert session == {}
    (found,) = kept()
    assert (found["steps"], found["outcome"]) == (["then one", "two", "then two"], "completed")


def _with_session(session: FakeSession) -> None:
    segment = ambient.current_segment()
    assert segment is not None
    segment.journeys = Here(session=lambda: session)


def test_a_session_that_nobody_uses_stays_unused(wire: Wire) -> None:
    """Django's session is neither loaded nor made because of us: not asked for, or empty, it is left alone."""

    class Request:
        session: Any

    def begin(session: SessionBase) -> SessionBase:
        request = Request()
        request.session = session
        with wire.tracer.start_as_current_span("request"):
            segment = ambient.current_segment()
            assert segment is not None
            segment.journeys = django_journeys.of(request)  # type: ignore[arg-type]
            user_journey.start_journey("a")
        return session

    class Session(SessionBase):  # type: ignore[misc]
        def __init__(self, key: str | None = None) -> None:  # Django's reads the settings
            self._session_key = key
            self.accessed = self.modified = False

    unloaded = begin(Session("a" * 32))
    assert "_session_cache" not in unloaded.__dict__
    empty = Session()
    empty._session_cache = {}
    assert not begin(empty).modified
    used = Session()
    used["basket"] = 1
    assert len(begin(used).keys()) == 2


def test_threads_outside_of_requests_share_nothing(wire: Wire) -> None:
    """A pool's thread does not show one job's journey to the next; the main thread of a command keeps its own."""
    user_journey.start_journey("command")

    def job() -> None:
        assert journeys_here.current() is None
        user_journey.start_journey("job")
        assert journeys_here.current() is None

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    current = journeys_here.current()
    assert current is not None and current.name == "command"


def test_what_is_kept_is_bounded(wire: Wire) -> None:
    """Steps, data, and open journeys of a user have bounds."""
    user_journey.start_journey("a", user_id="u")
    for number in range(journey_store.MAX_STEPS + 10):
        user_journey.add_step(f"step {number}", {f"key{index}": "x" * 10_000 for index in range(1000)})
    for _ in range(journey_store.MAX_OPEN + 10):
        user_journey.start_journey("b", user_id="u")
    found = next(one for one in documents() if one["name"] == "a")
    assert (len(found["steps"]), found["left_out"]) == (journey_store.MAX_STEPS, 10)
    assert len(str(found)) < 60 * 3000
    (open_ones,) = [store.get().load(name) for name in store.get().names("journeys-of:", 10)]
    assert open_ones is not None and len(open_ones) == journey_store.MAX_OPEN


@pytest.mark.parametrize(
    "data",
    [{Odd(): Odd()}, {"a": [Odd()] * 5}, {"a": {"b": {"c": 1}}}, ["no mapping"], {"n": float("nan")}, 7,
     {"big": 10**5000, "list": list(range(100_000)), "text": "x" * 1_000_000, "bytes": b"\xff" * 100}],
)  # fmt: skip
def test_absurd_arguments(wire: Wire, data: Any) -> None:
    """Whatever is given, nothing raises and a journey comes of it."""
    user_journey.start_journey(Odd(), Odd(), data=data, timeout_s=float("inf"))  # type: ignore[arg-type]
    user_journey.add_step("x" * 100_000, data, user_id=uuid.uuid4())
    user_journey.add_step(None, data)  # type: ignore[arg-type]
    user_journey.complete_journey(Odd(), data)  # type: ignore[arg-type]
    assert len(kept()) >= 1
    assert guard.swallowed == {}


def test_with_nothing_configured() -> None:
    """Without a set-up the calls do nothing."""
    assert runtime.get() is None
    user_journey.start_journey("a")
    user_journey.add_step("b")
    user_journey.complete_journey()
    assert journeys_here.current() is None


@pytest.mark.parametrize("text", [None, "", "x", "[]", "[1,2,3,4,5,6,7]", '{"a":1}', '["i","n","x",1,2,3,4]', 5])
def test_what_a_header_brings_may_be_anything(text: Any) -> None:
    """A packed journey comes back as it was; what is none is none."""
    whole = Journey("i", "näme", 1.5, 60.0, "u", "s", (2**127, 2**63))
    assert unpack(whole.pack()) == whole
    assert unpack(text) is None or isinstance(unpack(text), Journey)


def test_calls_are_cheap(wire: Wire) -> None:
    """No call takes more than 50 us of the caller's own time (on a machine where a span event takes 6)."""
    user_journey.start_journey("warm", user_id=1)
    user_journey.add_step("up")
    assert worker.flush(5.0)

    def cost(call: Any) -> float:
        best = 1.0
        for _ in range(10):
            begun = time.thread_time()
            for _ in range(50):
                call()
            best = min(best, (time.thread_time() - begun) / 50)
            assert worker.flush(10.0)
        return best

    with wire.tracer.start_as_current_span("request") as span:
        limit = max(50e-6, 8 * cost(lambda: span.add_event("a", {"amount": 5, "plan": "pro"})))
        assert cost(lambda: user_journey.start_journey("a", user_id=1)) < limit
        assert cost(lambda: user_journey.add_step("a", {"amount": 5, "plan": "pro"})) < limit
        assert cost(lambda: user_journey.complete_journey(final_data={"a": 1})) < limit
