"""Where errors show by themselves: excepthook, threads, logging (decision 6)."""

from __future__ import annotations

import logging
import logging.config
import threading
import timeit
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry.sentry import client, hooks
from tests.support.client import Sentry, sentry_sdk_set_up
from tests.unit.test_client import SET_UP, raised, run


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up() as one:
        hooks.install()
        yield one


def mechanism(event: dict[str, Any]) -> tuple[str, bool]:
    found = event["exception"]["values"][-1]["mechanism"]
    return found["type"], found["handled"]


def log_exception(name: str = "shop") -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger(name).exception("payment %s failed", 7)


def test_logged_exception(sentry: Sentry) -> None:
    """`logger.exception` makes one issue with the exception, the logger, message and parameters."""
    log_exception()
    event = sentry.event
    assert mechanism(event) == ("logging", True)
    assert event["logger"] == "shop"
    assert event["logentry"] == {
        "message": "payment %s failed",
        "formatted": "payment 7 failed",
        "params": [7],
    }


def test_logged_error_without_exception(sentry: Sentry) -> None:
    """`logger.error` without exc_info makes a message event with level and extra."""
    logging.getLogger("shop").error("no stock", extra={"sku": "a1"})
    event = sentry.event
    assert (event["logentry"]["formatted"], event["level"], event["extra"]["sku"]) == (
        "no stock",
        "error",
        "a1",
    )
    assert "exception" not in event


def test_log_errors_off() -> None:
    """With `log_errors` off, records without an exception make no issue, those with one do."""
    with sentry_sdk_set_up(log_errors=False) as sentry:
        hooks.install()
        logging.getLogger("shop").error("no stock")
        log_exception()
        assert len(sentry.events) == 1


@pytest.mark.parametrize("name", ["otel_sentry.x", "opentelemetry.sdk", "sentry_sdk.errors", "urllib3.connectionpool"])
def test_ignored_loggers(sentry: Sentry, name: str) -> None:
    """What telemetry says about itself is no issue."""
    logging.getLogger(name).error("delivery failed")
    assert sentry.events == []


def test_loggers_that_the_application_ignores(sentry: Sentry) -> None:
    """sentry_sdk's own list of ignored loggers is respected."""
    client.ensure()
    from sentry_sdk.integrations import logging as integration

    ignore = getattr(integration, "ignore_logger_for_events", integration.ignore_logger)
    ignore("noisy")
    logging.getLogger("noisy").error("again")
    logging.getLogger("opentelemetryish").error("mine")
    assert [event["logger"] for event in sentry.events] == ["opentelemetryish"]


def test_dict_config_and_propagate(sentry: Sentry) -> None:
    """Neither dictConfig nor propagate=False loses the hook."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"null": {"class": "logging.NullHandler"}},
            "loggers": {"shop.closed": {"handlers": ["null"], "propagate": False}},
        }
    )
    log_exception("shop.closed")
    assert sentry.event["logger"] == "shop.closed"


def test_logged_then_unhandled_is_one_issue(sentry: Sentry) -> None:
    """An exception that is logged, then reported by a framework, is one issue."""
    exc = raised(ValueError("boom"))
    logging.getLogger("shop").error("failed", exc_info=exc)
    client.capture_exception(exc, handled=False, mechanism="django")
    assert len(sentry.events) == 1


def test_lower_records_become_breadcrumbs(sentry: Sentry) -> None:
    """Once sentry_sdk is there, INFO records are breadcrumbs of later issues, and WARNING makes no issue."""
    client.ensure()
    logging.getLogger("shop").setLevel(logging.INFO)
    logging.getLogger("shop").info("step one")
    logging.getLogger("shop").warning("hm")
    assert sentry.events == []
    log_exception()
    messages = [crumb["message"] for crumb in sentry.event["breadcrumbs"]["values"]]
    assert messages == ["step one", "hm"]


def test_a_record_that_can_not_be_formatted(sentry: Sentry) -> None:
    """A record whose arguments do not fit its message raises nothing; the issue keeps the message."""
    try:
        logging.raiseExceptions = False
        logging.getLogger("shop").error("%d items", "many")
    finally:
        logging.raiseExceptions = True
    assert sentry.event["logentry"]["message"] == "%d items"


def test_cost_of_lower_records(sentry: Sentry) -> None:
    """A record below ERROR costs a comparison and a call (the bound leaves room for a busy machine)."""
    logger = logging.getLogger("quiet")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    record = logger.makeRecord("quiet", logging.INFO, "f", 1, "m", (), None)
    with_hook = min(timeit.repeat(lambda: logger.callHandlers(record), number=5000, repeat=7)) / 5000
    hooks.uninstall()
    without = min(timeit.repeat(lambda: logger.callHandlers(record), number=5000, repeat=7)) / 5000
    assert with_hook - without < 20e-6


def test_thread(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unhandled exception in a thread is an issue, and the former hook still runs."""
    seen: list[Any] = []
    hooks.uninstall()
    monkeypatch.setattr(threading, "excepthook", seen.append)
    hooks.install()

    def work() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert mechanism(sentry.event) == ("threading", False)
    assert len(seen) == 1
    hooks.uninstall()


def test_install_twice(sentry: Sentry) -> None:
    """Installing twice makes one issue; uninstalling gives the originals back."""
    hooks.install()
    log_exception()
    assert len(sentry.events) == 1
    hooks.uninstall()
    hooks.uninstall()
    log_exception()
    assert len(sentry.events) == 1


def test_excepthook() -> None:
    """An unhandled exception is a fatal issue, flushed, with the usual traceback and exit status."""
    done = run(
        SET_UP
        + """
import atexit, json
hooks.install()
atexit.register(lambda: print(len(sender.bodies), sender.flushed, b'"type":"excepthook"' in sender.bodies[0]))
raise ValueError("boom")
"""
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: boom")
    assert done.stdout.strip() == "1 [2.0] True"


@pytest.mark.parametrize("what", ["KeyboardInterrupt", "SystemExit(3)"])
def test_interruptions_are_no_issues(what: str) -> None:
    """Ctrl-C and sys.exit make no issue."""
    done = run(
        SET_UP
        + f"""
import atexit
hooks.install()
atexit.register(lambda: print(len(sender.bodies)))
raise {what}
"""
    )
    assert done.stdout.strip() == "0"
