"""sentry_sdk as we initialise and use it (decisions 6 to 12)."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry import counters
from otel_sentry.sentry import client, compat, events
from tests.support.client import Sentry, sentry_sdk_set_up


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up() as one:
        yield one


def capture(exc: BaseException, **more: Any) -> str | None:
    return client.capture_exception(exc, **{"handled": True, "mechanism": "tests", **more})


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except type(exc) as caught:
        return caught


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SET_UP = """
import sys
from types import SimpleNamespace
from otel_sentry import runtime, settings
class Sender:
    bodies, flushed = [], []
    def put(self, item, urgent=False): self.bodies.append(item.encode().body); return True
    def flush(self, timeout): self.flushed.append(timeout); return True
    def close(self, timeout=None): pass
loaded = settings.load({}, dsn="https://public@example.test/42", environment="test")
sender = Sender()
runtime.set_current(runtime.Runtime(loaded, None, sender, SimpleNamespace(update=print), None))
from otel_sentry.sentry import client, hooks, takeover
"""


def test_nothing_without_a_set_up() -> None:
    """Without a set-up in force nothing is initialised and nothing captured."""
    assert client.ensure() is False
    assert capture(ValueError("x")) is None


def test_sentry_sdk_is_imported_late_and_brings_no_django() -> None:
    """Hooks load no sentry_sdk; the first issue does, without Django or the real Spotlight module."""
    done = run(
        SET_UP
        + """
hooks.install(); takeover.install_import_hook()
assert "sentry_sdk" not in sys.modules
assert client.capture_exception(ValueError("x"), handled=True, mechanism="tests")
assert "sentry_sdk" in sys.modules and "django" not in sys.modules
assert "sentry_sdk.spotlight" not in sys.modules
assert len(sender.bodies) == 1
"""
    )
    assert done.returncode == 0, done.stderr


def test_spotlight_variable_turns_nothing_on(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """SENTRY_SPOTLIGHT, which makes sentry_sdk turn on PII and tracing, does not reach it."""
    monkeypatch.setenv("SENTRY_SPOTLIGHT", "1")
    import sentry_sdk

    assert client.ensure()
    active = sentry_sdk.get_client()
    assert active.spotlight is None
    assert active.options.get("traces_sampler") is None
    assert not active.options.get("send_default_pii")


def test_one_issue(sentry: Sentry) -> None:
    """An exception becomes one urgent envelope with mechanism, environment and server, accepted by Relay."""
    event_id = capture(raised(ValueError("boom")), handled=False, mechanism="django", level="fatal")
    (envelope,) = sentry.sender.envelopes
    assert envelope.urgent and envelope.categories == (("error", 1),)
    event = sentry.event
    assert event["event_id"] == event_id
    value = event["exception"]["values"][-1]
    assert (value["type"], value["value"]) == ("ValueError", "boom")
    assert (value["mechanism"]["type"], value["mechanism"]["handled"]) == ("django", False)
    assert (event["level"], event["environment"], event["server_name"]) == ("fatal", "production", "host1")
    assert "release" not in event


def test_modules(sentry: Sentry) -> None:
    """The installed distributions are on the event, with normalised names and the versions of pip."""
    from importlib.metadata import version

    capture(raised(ValueError("boom")))
    found = sentry.event["modules"]
    for name in ("sentry-sdk", "opentelemetry-api", "typing-extensions"):
        assert found[name] == version(name)


def test_release_is_sent(sentry: Sentry) -> None:
    """A known release is on the event."""
    with sentry_sdk_set_up(release="app@1.2.3") as other:
        capture(raised(ValueError("boom")))
        assert other.event["release"] == "app@1.2.3"


def test_release_is_never_left_to_git(sentry: Sentry) -> None:
    """`release` is always given, so that sentry_sdk runs no git."""
    options = client.options(sentry.runtime)
    assert options["release"] == ""
    assert options["traces_sample_rate"] is None
    assert options["debug"] is False and options["spotlight"] is False


def test_explicit_fields_win(sentry: Sentry) -> None:
    """Tags, user, contexts, level and fingerprint of the caller win over what the scopes hold."""
    import sentry_sdk

    client.ensure()
    with sentry.tracer.start_as_current_span("root"):
        sentry_sdk.set_tag("kind", "scope")
        sentry_sdk.set_user({"id": "scope"})
        capture(
            raised(ValueError("boom")),
            level="warning",
            tags={"kind": "mine"},
            user={"id": "mine"},
            contexts={"custom": {"a": 1}},
            fingerprint=["one"],
        )
    event = sentry.event
    assert (event["tags"]["kind"], event["user"]["id"], event["level"]) == ("mine", "mine", "warning")
    assert event["contexts"]["custom"] == {"a": 1}
    assert event["fingerprint"] == ["one"]


def test_one_issue_per_exception(sentry: Sentry) -> None:
    """One exception object is reported once; later calls return the first id; nothing counts as lost."""
    import sentry_sdk

    exc = raised(ValueError("boom"))
    first = capture(exc)
    assert capture(exc, handled=False) == first
    sentry_sdk.capture_exception(exc)
    assert sentry.event["event_id"] == first
    assert counters.snapshot() == {}


def test_the_applications_own_call_comes_first(sentry: Sentry) -> None:
    """What the app reported by `sentry_sdk.capture_exception` is not reported again by a hook of ours."""
    import sentry_sdk

    client.ensure()
    exc = raised(ValueError("boom"))
    first = sentry_sdk.capture_exception(exc)
    assert first and capture(exc) == first
    assert sentry.event["event_id"] == first


def test_an_exception_object_raised_again_in_another_trace(sentry: Sentry) -> None:
    """A module-level exception object that is raised in two requests is two issues, each in its own trace."""
    cached = ValueError("cached")
    traces = []
    for _ in range(2):
        with sentry.tracer.start_as_current_span("root") as span:
            traces.append(f"{span.get_span_context().trace_id:032x}")
            capture(raised(cached))
    assert [event["contexts"]["trace"]["trace_id"] for event in sentry.events] == traces


def test_marked_exceptions_can_be_pickled(sentry: Sentry) -> None:
    """The marks on an exception survive pickling (Celery results, multiprocessing)."""
    with pytest.raises(ValueError), sentry.tracer.start_as_current_span("root"):
        raise ValueError("boom")
    exc = ValueError("x")
    with sentry.tracer.start_as_current_span("root") as span:
        span.record_exception(raised(exc))
    assert hasattr(exc, events.SPAN_MARK)
    assert str(pickle.loads(pickle.dumps(exc))) == "x"


def test_exceptions_that_refuse_attributes(sentry: Sentry) -> None:
    """An exception class that refuses attributes is still reported, with the span's ids."""

    class Strict(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    with sentry.tracer.start_as_current_span("root"):
        with sentry.tracer.start_as_current_span("inner") as inner:
            exc = Strict("no")
            events.remember(exc, _segment(), inner.get_span_context().span_id, None)
        capture(exc)
    assert sentry.event["contexts"]["trace"]["span_id"] == f"{inner.get_span_context().span_id:016x}"


def _segment() -> Any:
    from otel_sentry.trace.segment import current_segment

    return current_segment()


def test_no_exception_is_kept_alive(sentry: Sentry) -> None:
    """Neither the exception nor its frames outlive the report."""

    class Local:
        pass

    class Custom(Exception):
        pass

    refs: list[weakref.ref[Any]] = []

    def work() -> None:
        held = Local()
        refs.append(weakref.ref(held))
        raise Custom("boom")

    def request() -> None:  # a frame that is over when the references are looked at
        with sentry.tracer.start_as_current_span("root"):
            try:
                work()
            except Custom as exc:
                refs.append(weakref.ref(exc))
                capture(exc)

    request()
    gc.collect()
    assert [ref() for ref in refs] == [None, None]
    assert len(sentry.events) == 1


def test_before_send_sees_scrubbed_data() -> None:
    """The scrubber runs before the user's before_send, and after every processor."""
    seen: list[dict[str, Any]] = []

    def before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        seen.append(event["extra"])
        return event

    with sentry_sdk_set_up(before_send=before_send) as sentry:
        capture(raised(ValueError("boom")), more={"extra": {"password": "hunter2", "fine": "yes"}})
        assert seen == [{"password": "[Filtered]", "fine": "yes"}]
        assert sentry.unchecked[0]["extra"] == seen[0]


@pytest.mark.allow_swallowed
def test_before_send_that_raises_drops() -> None:
    """A before_send that raises drops the event, counted once as callback_error, whatever the version."""

    def before_send(event: Any, hint: Any) -> Any:
        raise RuntimeError("broken scrubber")

    with sentry_sdk_set_up(before_send=before_send) as sentry:
        assert capture(raised(ValueError("boom"))) is None
        assert sentry.events == []
    assert counters.snapshot() == {("callback_error", "error"): 1}


def test_before_send_that_drops() -> None:
    """A before_send that returns None drops the event, counted once as before_send."""
    with sentry_sdk_set_up(before_send=lambda event, hint: None) as sentry:
        assert capture(raised(ValueError("boom"))) is None
        assert sentry.events == []
    assert counters.snapshot() == {("before_send", "error"): 1}


@pytest.mark.allow_swallowed
def test_before_breadcrumb_that_raises(sentry: Sentry) -> None:
    """A before_breadcrumb that raises drops the breadcrumb and not the program."""

    def before_breadcrumb(crumb: Any, hint: Any) -> Any:
        raise RuntimeError("broken")

    import sentry_sdk

    with sentry_sdk_set_up(before_breadcrumb=before_breadcrumb) as other:
        client.ensure()
        sentry_sdk.add_breadcrumb(message="one")
        capture(raised(ValueError("boom")))
        assert not other.event["breadcrumbs"]["values"]


def test_ignored_errors() -> None:
    """`ignore_errors` by name makes no issue."""
    with sentry_sdk_set_up(ignore_errors=("ValueError",)) as sentry:
        assert capture(raised(ValueError("boom"))) is None
        assert capture(raised(KeyError("boom")))
        assert len(sentry.events) == 1


def test_error_sample_rate() -> None:
    """`sample_rate` 0 drops errors and counts them."""
    with sentry_sdk_set_up(sample_rate=0.0) as sentry:
        assert capture(raised(ValueError("boom"))) is None
        assert sentry.events == []
    assert counters.snapshot() == {("sample_rate", "error"): 1}


@pytest.mark.parametrize("pii", [False, True])
def test_user_needs_pii(pii: bool) -> None:
    """E-mail, name and address of the request's user leave only with send_default_pii; the id always."""
    with sentry_sdk_set_up(send_default_pii=pii) as sentry:
        with sentry.tracer.start_as_current_span("root"):
            _segment().user = {"id": "7", "email": "a@example.test", "username": "ada", "user_type": "admin"}
            capture(raised(ValueError("boom")))
        user = sentry.event["user"]
        assert user["id"] == "7"
        assert ("email" in user, "username" in user) == (pii, pii)
        assert sentry.event["tags"]["user_type"] == "admin"


def test_message(sentry: Sentry) -> None:
    """A text becomes a message event; an id made beforehand is kept."""
    event_id = "0" * 31 + "7"
    assert client.capture_message("careful", level="warning", more={"event_id": event_id}) == event_id
    assert (sentry.event["message"], sentry.event["level"]) == ("careful", "warning")


def test_logs_and_metrics_take_the_bulk_lane(sentry: Sentry) -> None:
    """sentry_sdk's metrics leave through us, not urgent, counted as trace_metric."""
    import sentry_sdk
    from sentry_sdk import metrics

    if compat.versions() < (2, 75):
        pytest.skip("metrics are experimental in this sentry_sdk")
    client.ensure()
    metrics.count("orders", 1)
    sentry_sdk.flush()
    kinds = [(envelope.categories, envelope.urgent) for envelope in sentry.sender.envelopes]
    assert kinds == [((("trace_metric", 1),), False)]
    assert sentry.sender.flushed


def test_check_ins_are_urgent(sentry: Sentry) -> None:
    """A cron check-in leaves by the urgent lane, as category monitor, and is not treated as an error."""
    from sentry_sdk.crons import capture_checkin

    client.ensure()
    capture_checkin(monitor_slug="nightly", status="ok")
    (envelope,) = sentry.sender.envelopes
    assert (envelope.categories, envelope.urgent) == ((("monitor", 1),), True)


def test_ensure_from_many_threads(sentry: Sentry) -> None:
    """Threads that race to the first issue initialise once and lose nothing."""
    import sentry_sdk

    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        capture(raised(ValueError("boom")))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sentry.events) == 8
    from sentry_sdk.scope import global_event_processors

    assert global_event_processors.count(events.enrich) == 1
    assert sentry_sdk.get_client().is_active()
