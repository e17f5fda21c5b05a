"""One call of ``Celery.send_task``: who publishes, and what becomes of the span when that fails.

contrib starts the PRODUCER span in one signal and ends it in the next, which Celery does not send when the
broker can't be reached: the span then stays the current one for good. And it finds the span through the
registered task: that of a task of another code base (``send_task("name")``) ends before the message is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from opentelemetry.instrumentation.celery import utils

from otel_sentry import guard
from otel_sentry.caches import size_of


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


#: Message header with the size of the message's body in bytes, so that the worker knows it too.
SIZE_HEADER = "otel-sentry-body-size"


def measure(wrapped: Callable[..., Any], producer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around kombu's ``Producer._publish``, which has the body as it goes out and the message's headers."""
    publish = _current.get()
    if publish is not None and publish.task is not None and len(args) > 4:
        with guard.block("celery publish"):
            _measured(publish, args[0], args[4])
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
