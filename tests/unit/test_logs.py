"""Log records as Sentry's log items: what is on them, the batch's bounds, the hook's cost, recursion, fork."""

from __future__ import annotations

import json
import logging
import os
import time
import timeit
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import otel_sentry
from otel_sentry import counters, signals
from otel_sentry.logs import TraceContextFilter, severity, snapshot, value_of
from otel_sentry.sentry import batch, hooks, logs_v2
from otel_sentry.sentry.sender import Sender, Target
from tests.support.client import Sentry, sentry_sdk_set_up

LOG = logging.getLogger("shop.cart")


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    LOG.setLevel(logging.DEBUG)
    logs_v2.batcher._reset()
    yield
    logs_v2.batcher._reset()
    LOG.setLevel(logging.NOTSET)
    signals._to_sentry = False


def set_up(**wanted: Any) -> Any:
    return sentry_sdk_set_up(**{"logs": True, **wanted})


def items(sentry: Sentry) -> list[dict[str, Any]]:
    """The log items that have left, after a flush."""
    logs_v2.batcher.flush()
    containers = [body for one in sentry.sender.envelopes for head, body in one.items if head["type"] == "log"]
    return [item for container in containers for item in container["items"]]


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with set_up(release="r1") as one:
        signals.install(one.runtime)
        yield one


def values(item: dict[str, Any]) -> dict[str, Any]:
    return {key: one["value"] for key, one in item["attributes"].items()}


def test_an_item(sentry: Sentry) -> None:
    """Body, level, ids of the span, template, parameters, logger, code, extra fields, release and environment."""
    with sentry.tracer.start_as_current_span("job") as span:
        LOG.warning("order %d of %s", 7, "ann", extra={"amount": 9.5, "paid": True})
    (item,) = items(sentry)
    context = span.get_span_context()
    assert (item["trace_id"], item["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert (item["level"], item["severity_number"], item["body"]) == ("warn", 13, "order 7 of ann")
    assert abs(item["timestamp"] - time.time()) < 60
    found = values(item)
    assert found["sentry.message.template"] == "order %d of %s"
    assert (found["sentry.message.parameter.0"], found["sentry.message.parameter.1"]) == (7, "ann")
    assert (found["logger.name"], found["code.function.name"]) == ("shop.cart", "test_an_item")
    assert (found["sentry.release"], found["sentry.environment"]) == ("r1", "production")
    assert item["attributes"]["amount"] == {"value": 9.5, "type": "double"}
    assert item["attributes"]["paid"] == {"value": True, "type": "boolean"}


def test_container(sentry: Sentry) -> None:
    """sentry-sdk.md 3.5: one `log` item with item_count and content type, version 2, counted as log_item."""
    sentry.runtime.sender, collecting = Held(), sentry.sender  # type: ignore[assignment]
    LOG.info("a")
    LOG.info("b")
    sentry.runtime.sender = collecting  # type: ignore[assignment]
    logs_v2.batcher.flush()
    (envelope,) = sentry.sender.envelopes
    ((head, body),) = envelope.items
    assert head["item_count"] == 2 and head["content_type"] == "application/vnd.sentry.items.log+json"
    assert head["length"] == len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
    assert body["version"] == 2 and envelope.categories == (("log_item", 2),)


def test_outside_of_a_span(sentry: Sentry) -> None:
    """Sentry wants a trace id on each item: outside of spans all of a process share one, and there is no span id."""
    LOG.info("a")
    LOG.info("b")
    first, second = items(sentry)
    assert first["trace_id"] == second["trace_id"] and len(first["trace_id"]) == 32
    assert "span_id" not in first


@pytest.mark.parametrize(
    ("levelno", "level", "number"),
    [(5, "trace", 1), (10, "debug", 5), (20, "info", 9), (25, "info", 9), (30, "warn", 13), (40, "error", 17),
     (50, "fatal", 21), (60, "fatal", 21)],
)  # fmt: skip
def test_severity(levelno: int, level: str, number: int) -> None:
    """Python's levels as Sentry's level and OpenTelemetry's severity number; levels between take the lower one."""
    assert severity(levelno) == (level, number)


def test_level(sentry: Sentry) -> None:
    """OTEL_SENTRY_LOGS_LEVEL: INFO by default."""
    LOG.debug("no")
    LOG.info("yes")
    assert [item["body"] for item in items(sentry)] == ["yes"]


def test_off_by_default() -> None:
    """Without OTEL_SENTRY_LOGS nothing is hooked in beside the issues."""
    with sentry_sdk_set_up() as sentry:
        signals.install(sentry.runtime)
        hooks.install()
        assert hooks.log_sink is None
        LOG.warning("no")
        assert items(sentry) == []


def test_secrets(sentry: Sentry) -> None:
    """What the scrubber takes out of the text does not leave as a parameter; keys that name secrets are filtered."""
    LOG.info("user %s password=%s pin=%d", "ann", "hunter2", 4711, extra={"api_key": "k-123", "mail": "x"})
    LOG.info("login of %(user)s with %(password)s", {"user": "ann", "password": "hunter2"})
    LOG.info("wrote to %s", "bob@example.com")
    text = json.dumps(items(sentry))
    assert "hunter2" not in text and "k-123" not in text and "bob@" not in text
    assert '"sentry.message.parameter.0": {"value": "ann"' in text


def test_user_and_business(sentry: Sentry) -> None:
    """The user's id and the business operation are on the item; e-mail and name are not without PII."""
    with sentry.tracer.start_as_current_span("job"):
        otel_sentry.set_user({"id": 7, "email": "ann@example.com", "username": "ann"})
        with otel_sentry.tag_business_operation("checkout", module="shop", amount=3):
            LOG.info("paid")
    found = values(items(sentry)[0])
    assert (found["user.id"], found["business.operation"], found["business.amount"]) == ("7", "checkout", 3)
    assert "user.email" not in found and "user.name" not in found


def test_user_with_pii() -> None:
    """With SENTRY_SEND_DEFAULT_PII e-mail and name are there too."""
    with set_up(send_default_pii=True) as sentry:
        signals.install(sentry.runtime)
        with sentry.tracer.start_as_current_span("job"):
            otel_sentry.set_user({"id": 7, "email": "ann@example.com", "username": "ann"})
            LOG.info("paid")
        found = values(items(sentry)[0])
        assert (found["user.email"], found["user.name"]) == ("ann@example.com", "ann")


def test_exception(sentry: Sentry) -> None:
    """A record with an exception names its type and message; the stack is the issue's."""
    try:
        raise ValueError("no stock")
    except ValueError:
        LOG.warning("failed", exc_info=True)
    found = values(items(sentry)[0])
    assert (found["exception.type"], found["exception.message"]) == ("ValueError", "no stock")


def test_error_is_log_and_issue(sentry: Sentry) -> None:
    """`logger.error` is a log item and, as before, an issue."""
    LOG.error("no stock")
    assert len(items(sentry)) == 1 and len(sentry.events) == 1


class Touchy:
    """An object whose texts must not be asked for."""

    def __repr__(self) -> str:
        raise AssertionError("asked for its repr")

    __str__ = __repr__


def test_values() -> None:
    """Decision 19: values become primitive where they are set, without str() or repr() of the user's objects."""
    one = uuid.UUID(int=1)
    assert value_of(one) == str(one)
    assert value_of(Touchy()) == "<Touchy>"
    assert value_of(["a", Touchy()]) == ["a", "<Touchy>"]
    assert value_of([1, "a"]) == ["1", "a"]
    assert value_of({"a": Touchy()}) == '{"a":"<Touchy>"}'
    assert len(value_of("x" * 100_000)) <= 8192


def test_arguments_that_do_not_fit(sentry: Sentry) -> None:
    """A record that can't be formatted leaves with its template as the body."""
    LOG.propagate, handlers = False, LOG.handlers
    LOG.handlers = [logging.NullHandler()]
    LOG.info("%d items", "many")
    LOG.handlers, LOG.propagate = handlers, True
    assert items(sentry)[0]["body"] == "%d items"


@pytest.mark.parametrize("name", ["otel_sentry.x", "opentelemetry.sdk", "sentry_sdk.errors", "otel_sentry"])
def test_own_loggers(sentry: Sentry, name: str) -> None:
    """What telemetry says about itself is no log item, or each delivery would make the next one."""
    logging.getLogger(name).error("delivery failed")
    assert items(sentry) == []


@pytest.mark.parametrize("name", ["otel_sentry.business", "otel_sentry.audit", "opentelemetryish", "urllib3.x"])
def test_loggers_that_only_look_like_ours(sentry: Sentry, name: str) -> None:
    """Business facts and the audit trail are the application's, and so is urllib3 outside of an exporter."""
    logging.getLogger(name).error("a fact")
    assert len(items(sentry)) == 1


def test_urllib3_of_an_exporter(sentry: Sentry) -> None:
    """On a thread that sends telemetry, the HTTP library's records are not taken."""
    from otel_sentry.sentry import http

    with http.suppressed():
        logging.getLogger("urllib3.connectionpool").error("retry")
        LOG.info("a user's own")
    assert [item["body"] for item in items(sentry)] == ["a user's own"]


def test_recursion(sentry: Sentry) -> None:
    """Logging while a record is taken (its arguments' __str__) makes no further item and no endless loop."""

    class Chatty:
        def __str__(self) -> str:
            LOG.info("asked")
            return "chatty"

    LOG.propagate, LOG.handlers = False, [logging.NullHandler()]
    LOG.info("hello %s", Chatty())
    LOG.handlers, LOG.propagate = [], True
    assert [item["body"] for item in items(sentry)] == ["hello chatty"]


def test_hook_that_logs() -> None:
    """A before_send_log hook that logs does not feed itself."""

    def hook(log: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        LOG.info("in the hook")
        return log

    with set_up(before_send_log=hook) as sentry:
        signals.install(sentry.runtime)
        LOG.info("a")
        assert [item["body"] for item in items(sentry)] == ["a"]
        assert items(sentry)[1:] == [] and len(logs_v2.batcher) == 0


def test_before_send_log() -> None:
    """The hook sees sentry-sdk's fields with plain attributes, may change them, and None drops with a count."""
    seen: list[dict[str, Any]] = []

    def hook(log: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any] | None:
        seen.append(log)
        log["attributes"]["mine"] = 1
        return None if log["body"] == "drop" else {**log, "body": log["body"].upper()}

    with set_up(before_send_log=hook) as sentry:
        signals.install(sentry.runtime)
        LOG.info("keep")
        LOG.info("drop")
        (item,) = items(sentry)
    assert item["body"] == "KEEP" and item["attributes"]["mine"] == {"value": 1, "type": "integer"}
    assert counters.snapshot()["before_send", "log_item"] == 1
    assert {"severity_text", "severity_number", "body", "attributes", "time_unix_nano", "trace_id"} <= set(seen[0])


@pytest.mark.allow_swallowed
def test_before_send_log_that_raises() -> None:
    """Decision 8: the item is dropped and counted as callback_error; the others leave."""

    def hook(log: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        if log["body"] == "bad":
            raise ValueError("hook")
        return log

    with set_up(before_send_log=hook) as sentry:
        signals.install(sentry.runtime)
        for body in ("a", "bad", "b"):
            LOG.info(body)
        assert [item["body"] for item in items(sentry)] == ["a", "b"]
    assert counters.snapshot() == {("callback_error", "log_item"): 1}


class Held(list[Any]):
    """A sender that keeps the items, unencoded."""

    def put(self, item: Any, urgent: bool = False, share: float = 1.0) -> bool:
        self.append(item)
        return True


def test_batches_are_bounded(sentry: Sentry) -> None:
    """At most 100 items, or half a megabyte, in a batch; one ticket waits for the rest, however many there are."""
    held = Held()
    sentry.runtime.sender = held  # type: ignore[assignment]
    for number in range(250):
        LOG.info("line %d", number)
    assert [item.categories for item in held if item.categories] == [(("log_item", 100),)] * 2
    tickets = [item for item in held if not item.categories]
    assert len(tickets) == 1 and len(logs_v2.batcher) == 50
    assert not tickets[0].ready(time.monotonic()) and tickets[0].ready(time.monotonic() + batch.INTERVAL_S)
    held.clear()
    for _ in range(200):
        LOG.info("x" * 8000)
    assert [one for one in held if one.categories] and all(one.size < 2 * batch.MAX_BYTES for one in held)
    logs_v2.batcher._reset()


def test_ticket_lost(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the queue loses the ticket, a later record sends another one: nothing is stuck."""
    held = Held()
    sentry.runtime.sender = held  # type: ignore[assignment]
    LOG.info("a")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 2 * batch.INTERVAL_S + 1)
    LOG.info("b")
    assert len(held) == 2


def test_full_queue_refuses_logs() -> None:
    """Past half of the queue logs are dropped and counted: the rest is for spans and errors."""
    with set_up() as sentry:
        signals.install(sentry.runtime)
        sender = Sender([Target("http://127.0.0.1:1/api/1/envelope/", {})], queue_size=4)
        sentry.runtime.sender = sender
        for _ in range(800):
            LOG.info("line")
        logs_v2.batcher.flush()
        queued = sum(n for item in [*sender._lanes.bulk, *sender._lanes.aside, *sender._lanes.ready]
                     for _, n in item.categories)  # fmt: skip
        sender.close(0.0)
        lost = counters.snapshot()
    assert queued < 800 and sum(lost.values()) == 800 and {key[1] for key in lost} == {"log_item"}


def test_cost_when_off(sentry: Sentry) -> None:
    """Off costs one comparison (the bound leaves room for a busy machine)."""
    signals._to_sentry = False
    hooks.log_sink = None
    LOG.propagate, LOG.handlers = False, [logging.NullHandler()]
    record = LOG.makeRecord("quiet", logging.INFO, "f", 1, "m", (), None)
    with_hook = min(timeit.repeat(lambda: LOG.callHandlers(record), number=5000, repeat=7)) / 5000
    hooks.uninstall()
    without = min(timeit.repeat(lambda: LOG.callHandlers(record), number=5000, repeat=7)) / 5000
    LOG.handlers, LOG.propagate = [], True
    assert with_hook - without < 20e-6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_fork(sentry: Sentry) -> None:
    """A forked child starts with an empty batch and a trace of its own: what was open is the parent's to send."""
    LOG.info("parent's")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, f"{len(logs_v2.batcher)} {batch.trace_ids(0, 0)['trace_id']}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    number, trace_id = os.read(read, 100).decode().split()
    os.close(read)
    os.close(write)
    assert number == "0" and trace_id != batch.trace_ids(0, 0)["trace_id"]
    assert [item["body"] for item in items(sentry)] == ["parent's"]


def test_trace_context_filter(sentry: Sentry) -> None:
    """The filter's five fields inside of a span, and outside of one; they are no attributes of the log item."""
    record = LOG.makeRecord("shop", logging.INFO, "f", 1, "m", (), None)
    with sentry.tracer.start_as_current_span("job") as span:
        assert TraceContextFilter().filter(record) is True
        context = span.get_span_context()
    ids = [f"{context.trace_id:032x}", f"{context.span_id:016x}"]
    assert _fields(record) == [*ids, True, "unknown_service", "production"]
    assert not {"trace_id", "span_id", "service", "trace_sampled", "environment"} & set(snapshot(record).attributes)
    TraceContextFilter().filter(record)
    assert _fields(record)[:3] == ["", "", False]


def _fields(record: logging.LogRecord) -> list[Any]:
    return [vars(record)[name] for name in ("trace_id", "span_id", "trace_sampled", "service", "environment")]


def test_trace_context_filter_without_set_up() -> None:
    """With nothing configured the filter's fields are empty, and a format string that names them works."""
    record = LOG.makeRecord("shop", logging.INFO, "f", 1, "m", (), None)
    otel_sentry.TraceContextFilter().filter(record)
    text = logging.Formatter("%(service)s|%(environment)s|%(trace_id)s|%(span_id)s|%(message)s").format(record)
    assert text == "||||m"
