"""One call of ``Celery.send_task``: who publishes, and what becomes of the span when that fails.

contrib starts the PRODUCER span in one signal and ends it in the next, which Celery does not send when the
broker can't be reached: the span then stays the current one for good. And it finds the span through the
registered task: that of a task of another code base (``send_task("name")``) ends before the message is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from opentelemetry.instrumentation.celery import utils
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_sentry import ambient, guard
from otel_sentry.caches import size_of
from otel_sentry.trace.dsc import current_settings
from otel_sentry_celery import crons
from otel_sentry_celery.system import CONTEXT_HEADER, ENQUEUED_HEADER, SIZE_HEADER, system_of


class Publish:
    """One call, as a context manager. *task* is the registered task, or an `Unregistered` for contrib's span."""

    __slots__ = ("_token", "app", "task", "task_id")

    def __init__(self, app: Any) -> None:
        self.app = app
        self.task: Any = None
        self.task_id: Any = None

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        _current.reset(self._token)
        if exc is not None:
            with guard.block("celery publish"):
                _abandon(self, exc)


class Unregistered:
    """A task that this process knows by name only."""

    def __init__(self, name: str) -> None:
        self.name = name


_current: ContextVar[Publish | None] = ContextVar("otel_sentry_celery_publish", default=None)


def current() -> Publish | None:
    """The innermost `send_task` that runs here."""
    return _current.get()


def begin(publish: Publish, kwargs: dict[str, Any]) -> None:
    """Fill in *publish* from the arguments of ``before_task_publish``; give contrib a task in any case."""
    publish.task = utils.retrieve_task_from_sender(kwargs) or Unregistered(str(kwargs.get("sender")))
    publish.task_id = utils.retrieve_task_id_from_message(kwargs)
    kwargs["sender"] = publish.task


def send_task(wrapped: Callable[..., Any], app: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``Celery.send_task``, which every way to publish a task goes through."""
    with Publish(app):
        return wrapped(*args, **kwargs)


def describe(current: Publish | None, kwargs: dict[str, Any]) -> None:
    """What the task is to know goes into the message's headers, what is known of the queue on the span."""
    headers = kwargs.get("headers")
    if not headers:  # message protocol 1
        return
    headers[ENQUEUED_HEADER] = time.time()
    wanted = current_settings().celery_context
    carried = ambient.carried(wanted) if wanted else None
    headers.pop(CONTEXT_HEADER, None)  # a retry repeats the headers that its message came with
    if carried:
        headers[CONTEXT_HEADER] = carried
    headers.update(crons.for_message())
    if current is None:
        return
    known = utils.retrieve_context(current.task, current.task_id, is_publish=True)
    if known is None or not known[0].is_recording():
        return
    attributes = {"messaging.system": system_of(current.app)}
    destination = _destination(kwargs)
    if destination:
        attributes["messaging.destination.name"] = destination
    known[0].set_attributes(attributes)


def _destination(kwargs: dict[str, Any]) -> str | None:
    """The queue: the routing key on the default exchange, else the queue that the message declares."""
    declared = kwargs.get("declare") or ()
    if kwargs.get("exchange") and declared:
        return str(declared[0].name)
    routing_key = kwargs.get("routing_key")
    return str(routing_key) if routing_key else None


def deliver(wrapped: Callable[..., Any], producer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around kombu's ``Producer._publish``, which has the body as it goes out and the message's headers.

    The PRODUCER span says all: the broker's commands in it (PING, LLEN, SADD, LPUSH) are no spans of their own.
    """
    publish = _current.get()
    if publish is None or publish.task is None:
        return wrapped(*args, **kwargs)
    if len(args) > 4:
        with guard.block("celery publish"):
            _measured(publish, args[0], args[4])
    if current_settings().celery_broker_spans:
        return wrapped(*args, **kwargs)
    with suppress_instrumentation():
        return wrapped(*args, **kwargs)


def _measured(publish: Publish, body: Any, headers: Any) -> None:
    size = size_of(body)
    if size is None or not isinstance(headers, dict):
        return
    headers[SIZE_HEADER] = size
    known = utils.retrieve_context(publish.task, publish.task_id, is_publish=True)
    if known is not None and known[0].is_recording():
        known[0].set_attribute("messaging.message.body.size", size)


def _abandon(publish: Publish, exc: BaseException) -> None:
    known = utils.retrieve_context(publish.task, publish.task_id, is_publish=True)
    if known is not None:
        known[1].__exit__(type(exc), exc, exc.__traceback__)
        utils.detach_context(publish.task, publish.task_id, is_publish=True)
