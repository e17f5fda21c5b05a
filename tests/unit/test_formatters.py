"""JsonFormatter and TextFormatter: fields, context, secrets, odd objects; the LOGGING of the docs as written."""

from __future__ import annotations

import json
import logging
import logging.config
import logging.handlers
import pathlib
import queue
import re
from collections.abc import Iterator
from typing import Any

import pytest

import otel_sentry
from otel_sentry import JsonFormatter, TextFormatter, TraceContextFilter
from tests.support import docs
from tests.support.client import Sentry, sentry_sdk_set_up

LOG = logging.getLogger("shop.cart")


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up(release="1.2", service_name="shop") as one:
        yield one


def record(message: Any = "paid %s", *args: Any, exc_info: Any = None, **extra: Any) -> logging.LogRecord:
    return LOG.makeRecord("shop.cart", logging.WARNING, "/app/cart.py", 7, message, args, exc_info, "pay", extra)


def as_json(one: logging.LogRecord, **options: Any) -> dict[str, Any]:
    line = JsonFormatter(**options).format(one)
    assert "\n" not in line
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_json(sentry: Sentry) -> None:
    """Stable names: the record, the trace, the user, the operation, the extra fields."""
    with sentry.tracer.start_as_current_span("job") as span, otel_sentry.tag_business_operation("checkout", "shop"):
        otel_sentry.set_user({"id": 7, "user_type": "admin", "email": "ann@example.com"})
        found = as_json(record("paid %s", 3, amount=9.5, nested={"a": [1, {"b": None}]}))
    context = span.get_span_context()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("timestamp"))
    assert isinstance(found.pop("process"), int)
    assert found == {
        "level": "WARNING", "logger": "shop.cart", "message": "paid 3",
        "trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}", "trace_sampled": True,
        "service": "shop", "environment": "production", "user_id": "7", "user_type": "admin",
        "business_operation": "checkout", "business_module": "shop",
        "file": "/app/cart.py", "line": 7, "function": "pay", "thread": "MainThread",
        "amount": 9.5, "nested": {"a": [1, {"b": None}]},
    }  # fmt: skip


def test_json_without_anything() -> None:
    """With nothing configured and no span the context is left out."""
    assert set(as_json(record("m"))) == {
        "timestamp", "level", "logger", "message", "file", "line", "function", "process", "thread",
    }  # fmt: skip


def test_json_exception() -> None:
    """Type, message and stack trace of an exception; the stack of stack_info."""
    try:
        raise KeyError("gone")
    except KeyError as exc:
        one = record("m", exc_info=(type(exc), exc, exc.__traceback__))
    one.stack_info = "Stack (most recent call last):"
    found = as_json(one)
    assert (found["exception"]["type"], found["exception"]["message"]) == ("KeyError", "'gone'")
    assert "test_json_exception" in found["exception"]["stacktrace"] and found["stack"].startswith("Stack")


def test_extra_under_our_names(sentry: Sentry) -> None:
    """A name that is taken becomes `extra.<name>`; a user_id of the program's own is kept."""
    with sentry.tracer.start_as_current_span("job"):
        otel_sentry.set_user({"id": 7})
        found = as_json(record("m", level="mine", user_id="u-1", user_type="x"))
    assert (found["extra.level"], found["level"], found["user_id"]) == ("mine", "WARNING", "u-1")


def test_secrets() -> None:
    """Message, extra fields, stack trace: scrubbed, in both formatters."""
    try:
        raise ValueError("password=hunter2 for bob@example.com")
    except ValueError as exc:
        info = (type(exc), exc, exc.__traceback__)
    one = record(
        "password=%s",
        "hunter2",
        exc_info=info,
        api_key="hunter2",
        m="bob@example.com",
    )
    told = JsonFormatter().format(one) + TextFormatter().format(one)
    assert "hunter2" not in told and "bob@" not in told and "[Filtered]" in told


def test_pii() -> None:
    """With SENTRY_SEND_DEFAULT_PII an address stays, a password does not."""
    with sentry_sdk_set_up(send_default_pii=True):
        told = JsonFormatter().format(record("to bob@example.com, password=hunter2"))
    assert "bob@example.com" in told and "hunter2" not in told


def test_datadog(sentry: Sentry) -> None:
    """Datadog's names: decimal ids of 64 bits beside the hex ones, service, env, version."""
    with sentry.tracer.start_as_current_span("job") as span:
        found = as_json(record("m"), datadog=True)
    context = span.get_span_context()
    assert found["dd.trace_id"] == str(context.trace_id & (2**64 - 1)) and found["dd.span_id"] == str(context.span_id)
    assert (found["dd.service"], found["dd.env"], found["dd.version"]) == ("shop", "production", "1.2")
    assert found["trace_id"] == f"{context.trace_id:032x}"
    outside = as_json(record("m"), datadog=True)
    assert (outside["dd.trace_id"], outside["dd.span_id"]) == ("0", "0")


def test_datadog_by_the_preset() -> None:
    """OTEL_SENTRY_PRESET=datadog turns them on, `datadog=False` off."""
    with sentry_sdk_set_up(preset="datadog"):
        assert "dd.env" in as_json(record("m")) and "dd.env" not in as_json(record("m"), datadog=False)
    with sentry_sdk_set_up():
        assert "dd.env" not in as_json(record("m"))


class Odd:
    """Nothing of it works."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class OddError(Exception):
    """An exception that can't be shown."""

    def __str__(self) -> str:
        raise ZeroDivisionError


def _itself() -> dict[str, Any]:
    found: dict[str, Any] = {"x": float("nan"), "y": 10**5000}
    return {**found, **{str(number): found for number in range(20)}, "self": found}


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
@pytest.mark.parametrize(
    "one",
    [
        record(Odd()), record("%s", Odd()), record("%d", "x"), record("%(a)s", {"b": 1}), record(None),
        record("m", exc_info=(OddError, OddError(), None)), record("m", exc_info=(None, None, None)),
        record("\ud800\0" * 100_000), record(b"\xff"),
        record("m", **{"odd": Odd(), "set": {Odd()}, "itself": _itself(), "bytes": b"\xff", "a" * 10_000: 1}),
        record("m", **dict.fromkeys(map(str, range(5000)), "x" * 1000)),
    ],
)  # fmt: skip
def test_odd_objects(formatter: logging.Formatter, one: logging.LogRecord) -> None:
    """Whatever is logged, there is a line, of bounded size, and the record is as it was."""
    before = dict(vars(one))
    line = formatter.format(one)
    assert 10 < len(line) < 300_000
    line.encode("utf-8", "replace")
    assert vars(one) == before
    if isinstance(formatter, JsonFormatter):
        assert json.loads(line)["level"] == "WARNING"


@pytest.mark.allow_swallowed
@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
@pytest.mark.parametrize("message", ["password=hunter2secret", Odd()])
def test_where_all_else_fails(formatter: logging.Formatter, message: Any) -> None:
    """A record that can't be formatted is still a line, and a scrubbed one."""
    one = record(message)
    one.created = 1e30
    line = formatter.format(one)
    assert "WARNING" in line and "hunter2" not in line


def test_a_traceback_that_came_as_text() -> None:
    """`SocketHandler` sends the traceback as text only: it is written, scrubbed."""
    one = record("failed")
    one.exc_text = "Traceback: token=abcdef123456"
    assert TextFormatter().format(one).endswith("failed\nTraceback: token=[Filtered]")


def test_text(sentry: Sentry) -> None:
    """A plain line with what is known in brackets; nothing in brackets outside of all."""
    with sentry.tracer.start_as_current_span("job") as span, otel_sentry.tag_business_operation("checkout", "shop"):
        otel_sentry.set_user({"id": 7})
        line = TextFormatter().format(record("paid %s", 3))
    context = span.get_span_context()
    assert line.split(" ", 2)[2] == (
        f"WARNING shop.cart paid 3 [trace={context.trace_id:032x} span={context.span_id:016x} "
        "user=7 operation=checkout module=shop]"
    )
    assert TextFormatter().format(record("m")).endswith("WARNING shop.cart m")


def test_text_with_a_format_of_ones_own(sentry: Sentry) -> None:
    """The fields are there for it, in each of logging's styles, and the traceback follows."""
    try:
        raise KeyError("gone")
    except KeyError as exc:
        one = record("m", exc_info=(type(exc), exc, exc.__traceback__))
    assert (
        TextFormatter("{levelname}|{trace_id}|{service}|{message}", style="{")
        .format(one)
        .startswith("WARNING||shop|m\nTrac")
    )


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_on_another_thread(sentry: Sentry, formatter: logging.Formatter) -> None:
    """Behind a QueueHandler with the filter, a line has the trace of the thread that logged."""
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(waiting)
    handler.addFilter(TraceContextFilter())
    with sentry.tracer.start_as_current_span("job") as span:
        handler.handle(record("paid %s", 3))
    with sentry.tracer.start_as_current_span("another"):
        line = formatter.format(waiting.get())
    assert f"{span.get_span_context().trace_id:032x}" in line and "paid 3" in line


def test_documented_logging(sentry: Sentry, tmp_path: pathlib.Path) -> None:
    """The LOGGING of docs/logging.md, given to dictConfig as Django does: JSON lines with trace and operation."""
    found: dict[str, Any] = {}
    exec(docs.sample("docs/logging.md", "LOGGING = "), found)
    stream = tmp_path / "log"
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logging.config.dictConfig(found["LOGGING"])
    try:
        (handler,) = root.handlers
        assert isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, JsonFormatter)
        with stream.open("w") as file:
            handler.setStream(file)
            with sentry.tracer.start_as_current_span("job"), otel_sentry.tag_business_operation("checkout"):
                logging.getLogger("shop").info("paid")
                otel_sentry.log_business_event("order_paid", {"amount": 3})
    finally:
        root.handlers[:], root.level = before, level
    first, second = (json.loads(line) for line in stream.read_text().splitlines())
    assert (first["message"], first["business_operation"]) == ("paid", "checkout") and len(first["trace_id"]) == 32
    assert (second["message"], second["data.amount"], second["trace_id"]) == ("order_paid", 3, first["trace_id"])
