"""Business alerts: the event, whose it is, what is left out and counted, the store away, cost, resolve."""

from __future__ import annotations

import os
import threading
import time
import timeit
import types
from collections.abc import Iterator
from typing import Any

import pytest

import otel_sentry
from otel_sentry import alert_manager, runtime
from otel_sentry.business import alerts, memory, store, worker
from otel_sentry.business.sinks import Alert, lanes
from tests.support import docs
from tests.support.client import Sentry, sentry_sdk_set_up
from tests.support.odd import Odd


class Away:
    """A store that can't be reached."""

    def __getattr__(self, name: str) -> Any:
        raise store.Unavailable(name)


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[memory.Memory]:
    """A store of its own for each test, and nothing of the one before under way."""
    worker.flush(2)
    lanes.reset()
    one = memory.Memory()
    monkeypatch.setattr(store, "get", lambda: one)
    monkeypatch.setattr(alerts, "_own", None)
    yield one
    worker.flush(2)
    lanes.reset()


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up() as one:
        yield one


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Alert]]:
    """What the sinks got, by name."""
    got: list[tuple[str, Alert]] = []
    monkeypatch.setattr(lanes, "find", lambda name: lambda alert, settings: got.append((name, alert)))
    return got


def settle() -> None:
    assert worker.flush(5) and lanes.flush(5)


def test_an_id_that_is_an_email(delivered: list[tuple[str, Alert]]) -> None:
    """What sinks get of user and operation is scrubbed and bounded, as the rest."""
    with sentry_sdk_set_up(alert_sinks="critical=slack") as sentry:
        with sentry.tracer.start_as_current_span("job"):
            otel_sentry.set_user("bob@example.com")
            with otel_sentry.tag_business_operation("pay bob@example.com " + "x " * 5000):
                alert_manager.trigger_business_alert("a", "critical", "m")
        settle()
    ((_, alert),) = delivered
    assert alert.user_id == "[Filtered]"
    assert (alert.operation or "").startswith("pay [Filtered] x") and len(alert.operation or "") <= 200


def test_the_event(sentry: Sentry) -> None:
    """Id, message, level, fingerprint, tags and the block business_alert, scrubbed."""
    alert_id = alert_manager.trigger_business_alert(
        "payment_failed", "critical", "card 4111 1111 1111 1111 refused",
        {"amount": 3, "password": "hunter2", "mail": "to bob@example.com", "n": {"token": "t", "a": [1, 2]}},
    )  # fmt: skip
    settle()
    (event,) = sentry.unchecked
    assert event["event_id"] == alert_id and event["level"] == "fatal"
    assert event["message"] == "card [Filtered] refused"
    assert event["fingerprint"] == ["business-alert", "payment_failed"]
    assert event["tags"] == {"alert_type": "payment_failed", "severity": "critical"}
    assert event["contexts"]["business_alert"] == {
        "alert_type": "payment_failed", "severity": "critical", "amount": 3, "password": "[Filtered]",
        "mail": "to [Filtered]", "n": {"token": "[Filtered]", "a": [1, 2]},
    }  # fmt: skip


def test_relay_takes_it(sentry: Sentry) -> None:
    """Sentry's own normaliser has no objection to the event."""
    with sentry.tracer.start_as_current_span("job"):
        alert_manager.trigger_business_alert("queue_full", "medium", "1000 wait", {"queue": "mail", "size": 1000})
    settle()
    assert sentry.event["level"] == "warning"


@pytest.mark.parametrize(
    ("severity", "level"),
    [("critical", "fatal"), ("high", "error"), ("error", "error"), ("medium", "warning"), ("warning", "warning"),
     ("low", "info"), ("info", "info"), (" High ", "error")],
)  # fmt: skip
def test_severities(sentry: Sentry, severity: str, level: str) -> None:
    """business.md 3: what people call a severity, as Sentry's level."""
    alert_manager.trigger_business_alert("t", severity, "m")
    settle()
    assert sentry.event["level"] == level


@pytest.mark.parametrize("severity", ["urgent", "", None, 3])
def test_unknown_severity(sentry: Sentry, capsys: pytest.CaptureFixture[str], severity: Any) -> None:
    """Anything else is an error, and one line says so."""
    alert_manager.trigger_business_alert("t", severity, "m")
    settle()
    assert sentry.event["level"] == "error"
    assert capsys.readouterr().err.count("severity is none of") == 1


def test_whose_it_is(sentry: Sentry) -> None:
    """Trace, user, operation and sentry_sdk's tags are the caller's at the call, though its request has ended since."""
    import sentry_sdk

    from otel_sentry.sentry import client

    client.ensure()
    gate = threading.Event()
    worker.submit(gate.wait)
    with sentry.tracer.start_as_current_span("GET /pay"):
        sentry_sdk.set_tag("shop", "berlin")
        otel_sentry.set_user({"id": 7, "email": "ann@example.com", "user_type": "customer"})
        with sentry.tracer.start_as_current_span("charge") as span:
            with otel_sentry.tag_business_operation("checkout", module="shop"):
                at = time.time()
                alert_manager.trigger_business_alert("payment_failed", "high", "refused")
        otel_sentry.set_user({"id": 8})
    gate.set()
    settle()
    event = sentry.event
    context = span.get_span_context()
    trace = event["contexts"]["trace"]
    assert (trace["trace_id"], trace["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert event["user"] == {"id": 7, "user_type": "customer"} and event["transaction"] == "GET /pay"
    assert event["contexts"]["business_context"]["operation"] == "checkout"
    assert event["tags"]["user_type"] == "customer"
    from datetime import datetime

    assert abs(datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp() - at) < 1


def test_two_callers(sentry: Sentry) -> None:
    """Alerts of two threads keep their own user and trace."""

    def work(number: int) -> None:
        with sentry.tracer.start_as_current_span(f"job {number}"):
            otel_sentry.set_user({"id": number})
            alert_manager.trigger_business_alert(f"type {number}", "low", "m")

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle()
    assert {(event["transaction"], event["user"]["id"]) for event in sentry.events} == {("job 1", 1), ("job 2", 2)}


def test_repetitions_are_left_out_and_counted(sentry: Sentry, kept: memory.Memory) -> None:
    """The same type and message once in the window; the next one after it says how many there were."""
    for _ in range(4):
        alert_manager.trigger_business_alert("t", "high", "m")
    alert_manager.trigger_business_alert("t", "high", "another")
    settle()
    assert [event["message"] for event in sentry.unchecked] == ["m", "another"]
    (key,) = [key for key in kept._values if key.startswith("alert:once:") and key.endswith(alerts._digest("t", "m"))]
    kept.remove(key)  # the window has passed
    alert_manager.trigger_business_alert("t", "high", "m")
    alert_manager.trigger_business_alert("u", "high", "m")
    settle()
    blocks = [event["contexts"]["business_alert"] for event in sentry.unchecked[2:]]
    assert [block.get("suppressed") for block in blocks] == [3, None]


def test_the_window_is_five_minutes(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alert at 0 and one past 300 s; none in between."""
    clock = [1000.0]
    monkeypatch.setattr(memory.time, "monotonic", lambda: clock[0])
    raised = alerts._raised("t", "error", "m", None)
    for moment in (0, 299, 301):
        clock[0] = 1000.0 + moment
        alerts._handle(raised)
    assert len(sentry.unchecked) == 2


def test_no_window() -> None:
    """OTEL_SENTRY_ALERT_WINDOW=0 leaves no repetition out."""
    with sentry_sdk_set_up(alert_window=0.0) as sentry:
        for _ in range(3):
            alert_manager.trigger_business_alert("t", "high", "m")
        settle()
        assert len(sentry.unchecked) == 3


def test_at_most_thirty_a_minute(sentry: Sentry, kept: memory.Memory) -> None:
    """The rest is counted, stands on the next alert, and may be raised again: it never was."""
    for number in range(50):
        alert_manager.trigger_business_alert("t", "high", f"m{number}")
    settle()
    assert len(sentry.unchecked) == 30
    kept.remove("alert:minute")  # a minute has passed
    alert_manager.trigger_business_alert("t", "high", "m49")
    settle()
    assert sentry.unchecked[30]["contexts"]["business_alert"]["suppressed_by_rate"] == 20


def test_any_minute(kept: memory.Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever 60 seconds one looks at, no more than the rate are in them; what was left out takes nobody's place."""
    now, admitted = 1000.0, list[float]()
    monkeypatch.setattr(alerts, "time", types.SimpleNamespace(time=lambda: now))
    for _ in range(4000):
        now += 0.1
        if alerts._within_rate(kept, 30):
            admitted.append(now)
    assert len(admitted) >= 6 * 30
    assert all(later - first > 60 for first, later in zip(admitted, admitted[30:], strict=False))


def test_store_away(monkeypatch: pytest.MonkeyPatch, sentry: Sentry) -> None:
    """An alert does not wait for the store: meanwhile this process keeps count itself."""
    monkeypatch.setattr(store, "get", Away)
    for _ in range(3):
        alert_manager.trigger_business_alert("t", "high", "m")
    settle()
    assert len(sentry.unchecked) == 1


def test_sinks_by_severity(delivered: list[tuple[str, Alert]]) -> None:
    """Each severity goes to its own sinks, with links into Sentry; ids, operation and user's id, but no e-mail."""
    wanted = {"alert_sinks": "critical=pagerduty+slack,low=mail", "web_url": "https://acme.sentry.io/", "release": "1"}
    with sentry_sdk_set_up(**wanted) as sentry:
        with sentry.tracer.start_as_current_span("job") as span, otel_sentry.tag_business_operation("checkout"):
            otel_sentry.set_user({"id": 7, "email": "ann@example.com"})
            alert_id = alert_manager.trigger_business_alert("t", "critical", "to bob@example.com", {"secret": "x"})
            alert_manager.trigger_business_alert("t", "high", "nobody's")
            alert_manager.trigger_business_alert("t", "low", "letter")
        settle()
        assert [(name, alert.message) for name, alert in sorted(delivered, key=lambda one: one[0])] == [
            ("mail", "letter"), ("pagerduty", "to [Filtered]"), ("slack", "to [Filtered]"),
        ]  # fmt: skip
        alert = dict(delivered)["slack"]
        trace_id = f"{span.get_span_context().trace_id:032x}"
        assert (alert.id, alert.trace_id, alert.user_id, alert.operation) == (alert_id, trace_id, "7", "checkout")
        assert alert.context == {"secret": "[Filtered]"} and "ann@" not in repr(alert)
        assert alert.event_url == f"https://acme.sentry.io/issues/?query={alert_id}"
        assert alert.trace_url == f"https://acme.sentry.io/performance/trace/{trace_id}/"
        assert len(sentry.unchecked) == 3


def test_no_links_without_an_address(delivered: list[tuple[str, Alert]]) -> None:
    """A DSN does not tell the organisation's name: without OTEL_SENTRY_WEB_URL there are no links."""
    with sentry_sdk_set_up(alert_sinks="slack"):
        alert_manager.trigger_business_alert("t", "low", "m")
        settle()
    assert delivered[0][1].links() == {}


def test_link_to_another_backend(delivered: list[tuple[str, Alert]]) -> None:
    """Without Sentry's address the trace's link is that of OTEL_SENTRY_TRACE_URL."""
    with sentry_sdk_set_up(alert_sinks="slack", trace_url="https://traces.example.test/{trace_id}") as sentry:
        with sentry.tracer.start_as_current_span("job") as span:
            alert_manager.trigger_business_alert("t", "low", "m")
        settle()
    link = f"https://traces.example.test/{span.get_span_context().trace_id:032x}"
    assert delivered[0][1].links() == {"Trace": link}


def test_never_sampled_away() -> None:
    """SENTRY_SAMPLE_RATE leaves errors out, not alerts: the next one would come in five minutes only."""
    with sentry_sdk_set_up(sample_rate=0.0) as sentry:
        otel_sentry.capture_custom_exception(ValueError("x"))
        alert_manager.trigger_business_alert("t", "low", "m")
        settle()
        assert sentry.event["message"] == "m"


def test_resolve(delivered: list[tuple[str, Alert]]) -> None:
    """The sinks that got an alert get its end, under the same dedup key; the next one is new, though in the window."""
    with sentry_sdk_set_up(alert_sinks="critical=pagerduty,low=mail") as sentry:
        for _ in range(2):
            alert_manager.trigger_business_alert("t", "critical", "m")
        alert_manager.resolve_business_alert("t")
        alert_manager.trigger_business_alert("t", "critical", "m")
        settle()
        assert [(name, alert.resolved) for name, alert in delivered] == [
            ("pagerduty", False), ("pagerduty", True), ("pagerduty", False),
        ]  # fmt: skip
        assert len({alert.dedup_key for _, alert in delivered}) == 1
        assert len(sentry.unchecked) == 2
        delivered.clear()
        alert_manager.resolve_business_alert("never raised here")
        settle()
        assert sorted(name for name, _ in delivered) == ["mail", "pagerduty"]


def test_counted(monkeypatch: pytest.MonkeyPatch, sentry: Sentry) -> None:
    """`business.alert` counts every alert by type and severity, repetitions too."""
    from otel_sentry.business import metrics

    counted: list[tuple[Any, ...]] = []
    monkeypatch.setattr(metrics, "count", lambda name, **labels: counted.append((name, labels)))
    for _ in range(2):
        alert_manager.trigger_business_alert("t", "high", "m")
    settle()
    assert counted == [("business.alert", {"type": "t", "severity": "error"})] * 2


def test_nothing_configured() -> None:
    """None, and no work for anybody."""
    assert runtime.get() is None
    assert alert_manager.trigger_business_alert("t", "high", "m") is None
    assert alert_manager.resolve_business_alert("t") is None


@pytest.mark.parametrize(
    "arguments",
    [
        (None, None, None, None), (Odd(), Odd(), Odd(), Odd()), ("", "high", "", {}), (b"\xff", "high", 10**5000, [1]),
        ("\ud800" * 10_000, "high", "\0" * 10**6, {Odd(): Odd(), None: {1: {2: {3: {4: 5}}}}, "k": float("nan")}),
        ("t", "high", "m", dict.fromkeys(range(10000), "x" * 10000)),
    ],
)  # fmt: skip
def test_absurd_arguments(delivered: list[tuple[str, Alert]], arguments: tuple[Any, ...]) -> None:
    """Whatever is given, an event leaves, and it is of bounded size."""
    with sentry_sdk_set_up(alert_sinks="slack") as sentry:
        assert alert_manager.trigger_business_alert(*arguments) is not None
        settle()
        (event,) = sentry.unchecked
        assert len(event["fingerprint"][1]) <= 200 and len(repr(event)) < 900_000
        assert len(delivered) == 1


def test_the_pages_sample(sentry: Sentry, delivered: list[tuple[str, Alert]]) -> None:
    """The page's alert runs as written."""
    exec(docs.sample("docs/alerts.md", "trigger_business_alert"), {})
    settle()
    assert sentry.event["contexts"]["business_alert"]["refused"] == 41


def test_a_full_worker(monkeypatch: pytest.MonkeyPatch, sentry: Sentry) -> None:
    """Where the worker takes no more, there is no id."""
    monkeypatch.setattr(worker, "submit", lambda *args: False)
    assert alert_manager.trigger_business_alert("t", "high", "m") is None


def test_after_a_fork(sentry: Sentry) -> None:
    """A forked child raises alerts of its own."""
    alert_manager.trigger_business_alert("parent", "high", "m")
    settle()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        alert_manager.trigger_business_alert("child", "high", "m")
        worker.flush(5)
        os.write(write, b",".join(event["fingerprint"][1].encode() for event in sentry.unchecked))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"parent,child"
    os.close(read), os.close(write)


@pytest.mark.once
def test_cost_on_the_callers_thread(monkeypatch: pytest.MonkeyPatch, sentry: Sentry) -> None:
    """Less than 50 us for the caller, twice that on a busy machine; the rest is the worker's."""
    monkeypatch.setattr(worker, "submit", lambda *args: True)
    context = {"amount": 3, "currency": "EUR", "card": "visa"}
    with sentry.tracer.start_as_current_span("job"), otel_sentry.tag_business_operation("checkout"):
        call = lambda: alert_manager.trigger_business_alert("payment_failed", "critical", "refused", context)  # noqa: E731
        best = min(timeit.repeat(call, timer=time.thread_time, number=200, repeat=10)) / 200
    assert best < 100e-6, f"{best * 1e6:.1f} us"
