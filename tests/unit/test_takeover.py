"""An application that calls `sentry_sdk.init` itself keeps working (decision 14)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk

from otel_sentry import bootstrap
from otel_sentry.sentry import client, compat, hooks, takeover
from tests.support.client import DSN, Collecting, Sentry, sentry_sdk_set_up
from tests.unit.test_client import SET_UP, capture, raised, run


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up() as one:
        takeover.install_import_hook()
        yield one


def test_its_options_are_merged(sentry: Sentry, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and hooks of the app win, the transport stays ours, and one line says what was changed."""

    def before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        event.setdefault("tags", {})["hook"] = "theirs"
        return event

    sentry_sdk.init(
        dsn=DSN,
        release="shop@2",
        environment="theirs",
        before_send=before_send,
        ignore_errors=["KeyError"],
        traces_sample_rate=0.25,
        max_breadcrumbs=7,
        attach_stacktrace=True,
    )
    assert capture(raised(KeyError("ignored"))) is None
    sentry_sdk.capture_exception(raised(ValueError("boom")))
    event = sentry.event
    assert (event["release"], event["environment"], event["tags"]["hook"]) == ("shop@2", "theirs", "theirs")
    assert sentry_sdk.get_client().options["traces_sample_rate"] is None
    assert sentry_sdk.get_client().options["attach_stacktrace"] is True
    assert sentry.runtime.settings.traces_sample_rate == 0.25
    assert sentry.runtime.settings.origins["release"] == "sentry_sdk.init"
    assert sentry.runtime.sampler.updated == [sentry.runtime.settings]  # type: ignore[attr-defined]
    lines = [line for line in capsys.readouterr().err.splitlines() if "took over" in line]
    assert len(lines) == 1 and "traces_sample_rate" in lines[0]
    assert "public" not in lines[0]


def test_a_traces_sampler_moves(sentry: Sentry) -> None:
    """The app's traces_sampler decides for our sampler, not for sentry_sdk."""

    def traces_sampler(context: Any) -> float:
        return 1.0

    sentry_sdk.init(traces_sampler=traces_sampler)
    assert sentry.runtime.settings.traces_sampler is traces_sampler
    assert sentry_sdk.get_client().options["traces_sampler"] is None


def test_a_transaction_hook_moves(sentry: Sentry) -> None:
    """before_send_transaction goes to our settings, with 3.0 too, which itself refuses it."""

    def hook(event: Any, hint: Any) -> Any:
        return event

    sentry_sdk.init(before_send_transaction=hook)
    assert sentry.runtime.settings.before_send_transaction is hook
    assert capture(raised(ValueError("boom")))


def test_integrations(sentry: Sentry, capsys: pytest.CaptureFixture[str]) -> None:
    """Integrations that OpenTelemetry replaces are dropped and named; others are kept."""
    from sentry_sdk.integrations.redis import RedisIntegration
    from sentry_sdk.integrations.serverless import serverless_function
    from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

    assert serverless_function and SentryWsgiMiddleware  # both still import beside us
    from sentry_sdk.integrations import Integration

    class Own(Integration):
        identifier = "own"

        @staticmethod
        def setup_once() -> None:
            pass

    sentry_sdk.init(integrations=[RedisIntegration(), Own()])
    names = set(sentry_sdk.get_client().integrations)
    assert names == {"own", "logging"}
    assert "redis" in capsys.readouterr().err


def test_its_logging_levels(sentry: Sentry) -> None:
    """A LoggingIntegration of the app sets the levels of our log hook; no event comes twice."""
    import logging

    from sentry_sdk.integrations.logging import LoggingIntegration

    hooks.install()
    arguments: dict[str, Any] = {"event_level": logging.CRITICAL}
    sentry_sdk.init(integrations=[LoggingIntegration(**arguments)])
    logging.getLogger("shop").error("below")
    logging.getLogger("shop").critical("above")
    assert [event["logentry"]["message"] for event in sentry.events] == ["above"]
    sentry_sdk.init(integrations=[LoggingIntegration(event_level=None)])
    logging.getLogger("shop").critical("not even this")
    assert len(sentry.events) == 1


def test_another_dsn(sentry: Sentry, capsys: pytest.CaptureFixture[str]) -> None:
    """A DSN of the app's own wins, for traces too, and the line names project and host but not the key."""
    former = sentry.sender
    sentry_sdk.init("https://theirs@other.example.test/9")
    line = next(line for line in capsys.readouterr().err.splitlines() if "took over" in line)
    assert "project 9 at other.example.test" in line and "theirs" not in line
    assert former.closed
    assert sentry.runtime.dsn is not None and sentry.runtime.dsn.project_id == "9"
    assert sentry.runtime.sender is not None and sentry.runtime.sender is not former
    sentry.runtime.sender.close(0)


def test_a_later_configure_keeps_them(sentry: Sentry, capsys: pytest.CaptureFixture[str]) -> None:
    """DSN, hooks and names of the app outlive a `configure` that names others, and it has nothing to complain of."""
    hook: Any = lambda event, hint: event  # noqa: E731
    sentry_sdk.init("https://theirs@other.example.test/9", before_send=hook, release="shop@2", environment="theirs")
    capsys.readouterr()
    bootstrap._amend(sentry.runtime, {"environment": "staging"})
    found = sentry.runtime.settings
    assert (found.dsn, found.before_send) == ("https://theirs@other.example.test/9", hook)
    assert (found.release, found.environment, found.origins["release"]) == ("shop@2", "staging", "sentry_sdk.init")
    assert "DSN" not in capsys.readouterr().err
    bootstrap._amend(sentry.runtime, {"dsn": "https://key@third.example.test/3"})
    assert sentry.runtime.settings.dsn == found.dsn
    assert "the DSN stays" in capsys.readouterr().err
    assert sentry.runtime.sender is not None
    sentry.runtime.sender.close(0)


def test_a_broken_dsn(sentry: Sentry, capsys: pytest.CaptureFixture[str]) -> None:
    """A DSN that can't be read is refused in the line, and ours stays."""
    sentry_sdk.init("https://key@host/notanumber")
    assert "its DSN is not used" in capsys.readouterr().err
    assert isinstance(sentry.runtime.sender, Collecting)
    assert capture(raised(ValueError("boom")))


def test_left_alone() -> None:
    """With take_over_init off the app's call is sentry_sdk's own, with its own transport."""
    with sentry_sdk_set_up(take_over_init=False) as sentry:
        takeover.install_import_hook()
        assert client.ensure()
        seen: list[Any] = []

        class Theirs(sentry_sdk.Transport):
            def capture_envelope(self, envelope: Any) -> None:
                seen.append(envelope)

        sentry_sdk.init(dsn=DSN, transport=Theirs({"dsn": DSN}), default_integrations=False)
        with sentry.tracer.start_as_current_span("root") as root:
            sentry_sdk.capture_exception(raised(ValueError("boom")))
        assert sentry.events == []
        (envelope,) = seen
        trace = envelope.get_event()["contexts"]["trace"]
        assert trace["trace_id"] == f"{root.get_span_context().trace_id:032x}"


def test_left_alone_logs_once() -> None:
    """With take_over_init off, records are left to the app's own LoggingIntegration: no event comes twice."""
    import logging

    with sentry_sdk_set_up(take_over_init=False) as sentry:
        takeover.install_import_hook()
        hooks.install()
        seen: list[Any] = []

        class Theirs(sentry_sdk.Transport):
            def capture_envelope(self, envelope: Any) -> None:
                seen.append(envelope)

        from sentry_sdk.integrations.logging import LoggingIntegration

        sentry_sdk.init(
            dsn=DSN,
            transport=Theirs({"dsn": DSN}),
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[LoggingIntegration(event_level=logging.ERROR)],
        )
        logging.getLogger("shop").error("once")
        assert (len(seen), sentry.events) == (1, [])


def test_a_client_made_before_us() -> None:
    """An app that had called init before `configure` is taken over at the first issue, with its own hooks."""
    with sentry_sdk_set_up() as sentry:

        def before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
            event["tags"] = {"hook": "theirs"}
            return event

        takeover.original_init(sentry_sdk)(
            dsn=DSN,
            release="shop@3",
            before_send=before_send,
            default_integrations=False,
            auto_enabling_integrations=False,
        )
        capture(raised(ValueError("boom")))
        assert sentry.event["tags"] == {"hook": "theirs"}
        assert (sentry.event["release"], sentry.event["environment"]) == ("shop@3", "production")
        assert takeover.is_ours(sentry_sdk.get_client())


def test_without_a_set_up() -> None:
    """Where nothing of ours is in force the app's call is sentry_sdk's own."""
    takeover.install_import_hook()
    try:
        sentry_sdk.init(dsn=None, default_integrations=False)
        assert not takeover.is_ours(sentry_sdk.get_client())
    finally:
        takeover.uninstall()
        sentry_sdk.get_global_scope().set_client(None)


def test_unknown_options_are_the_versions_business(sentry: Sentry) -> None:
    """An option that this sentry_sdk does not know breaks nothing: it is left out."""
    sentry_sdk.init(some_option_of_tomorrow=1)
    assert capture(raised(ValueError("boom")))


def test_privacy_of_the_app(sentry: Sentry) -> None:
    """The app's send_default_pii=True counts, in every version's own way."""
    sentry_sdk.init(send_default_pii=True)
    assert sentry.runtime.settings.send_default_pii is True
    options = sentry_sdk.get_client().options
    if compat.versions()[0] < 3:
        assert options["send_default_pii"] is True
    else:
        assert options["data_collection"]["user_info"] is True


def test_when_the_app_imports_it_later() -> None:
    """The hook works for a later import, `from sentry_sdk import init` too, and initialises at once."""
    done = run(
        SET_UP
        + """
takeover.install_import_hook()
assert "sentry_sdk" not in sys.modules
from sentry_sdk import init, capture_message
assert capture_message("before init")
init(dsn="https://public@example.test/42", environment="theirs")
assert capture_message("after init")
assert len(sender.bodies) == 2 and b'"environment":"theirs"' in sender.bodies[1], sender.bodies
assert "django" not in sys.modules
print("fine")
"""
    )
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr
