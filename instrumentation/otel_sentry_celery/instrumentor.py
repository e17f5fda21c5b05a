"""contrib's CeleryInstrumentor, plus queue attributes, failures as issues and a flush when a worker ends."""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

import sys
import time
from typing import Any
from weakref import WeakKeyDictionary

import wrapt
from celery import signals
from celery.app.base import Celery  # not from `celery`: that is half imported when the distro's hook runs
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded
from celery.utils.serialization import UnpickleableExceptionWrapper
from kombu.messaging import Producer
from opentelemetry import context
from opentelemetry.instrumentation.celery import CeleryInstrumentor as _Contrib
from opentelemetry.instrumentation.celery import celery_getter, utils
from opentelemetry.propagate import extract
from opentelemetry.trace import get_current_span

from otel_sentry import errors, guard
from otel_sentry.instrumentor import OneInstance
from otel_sentry_celery import publish

#: Message header with the time of publishing, in seconds since the epoch; the same that sentry-python uses.
ENQUEUED_HEADER = "sentry-task-enqueued-time"

#: kombu's driver types under the names of OTel's ``messaging.system``; others stay as they are.
_SYSTEMS = {"amqp": "rabbitmq", "sqs": "aws_sqs"}
_system_of_app: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


class CeleryInstrumentor(OneInstance, _Contrib):
    """Use it as contrib's, `use_span_links` included."""

    _hooked = False

    def _instrument(self, **kwargs: Any) -> None:
        # contrib connects the methods that are overridden below.
        super()._instrument(**kwargs)
        signals.worker_process_shutdown.connect(_flush, weak=False)
        signals.worker_shutdown.connect(_flush, weak=False)
        wrapt.wrap_function_wrapper(Celery, "send_task", publish.send_task)
        if hasattr(Producer, "_publish"):  # private: without it only the size of the body is missing
            wrapt.wrap_function_wrapper(Producer, "_publish", publish.measure)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        signals.worker_process_shutdown.disconnect(_flush)
        signals.worker_shutdown.disconnect(_flush)
        setattr(Celery, "send_task", Celery.send_task.__wrapped__)
        sending: Any = getattr(Producer, "_publish", None)
        if sending is not None:
            setattr(Producer, "_publish", sending.__wrapped__)

    def _trace_prerun(self, *args: Any, **kwargs: Any) -> None:
        super()._trace_prerun(*args, **kwargs)
        with guard.block("celery task start"):
            _describe_run(kwargs.get("task"), kwargs.get("task_id"))

    def _trace_before_publish(self, *args: Any, **kwargs: Any) -> None:
        current = publish.current()
        if current is not None:
            with guard.block("celery publish"):
                publish.begin(current, kwargs)
        super()._trace_before_publish(*args, **kwargs)
        with guard.block("celery publish"):
            _describe_publish(current, kwargs)

    @staticmethod
    def _trace_after_publish(*args: Any, **kwargs: Any) -> None:
        current = publish.current()
        if current is not None and current.task is not None:
            kwargs["sender"] = current.task
        _Contrib._trace_after_publish(*args, **kwargs)

    @staticmethod
    def _trace_failure(*args: Any, **kwargs: Any) -> None:
        reported = kwargs.get("exception")
        exc = _raised(reported)
        # contrib tests `throws` against billiard's wrapper, never finds it and marks the span as failed.
        # Reject arrives here from the main process, for tasks that acknowledge late.
        expected = (*(getattr(kwargs.get("sender"), "throws", None) or ()), Ignore, Reject, Retry)
        if exc is None or isinstance(exc, expected) or _is_second_report(exc):
            return
        _Contrib._trace_failure(*args, **kwargs)
        _capture(kwargs.get("sender"), exc)
        for stand_in in (reported, getattr(kwargs.get("einfo"), "exception", None)):
            if stand_in is not None and stand_in is not exc:
                _share_marks(exc, stand_in)


def _raised(reported: BaseException | None) -> BaseException | None:
    """The exception that the task raised; *reported* is a stand-in for it where it can't be pickled."""
    live = sys.exc_info()[1]
    if live is None or reported is None:
        return reported
    stands_in = isinstance(reported, UnpickleableExceptionWrapper) or isinstance(live, type(reported))
    return live if stands_in else reported


def _capture(task: Any, exc: BaseException) -> None:
    """In the main process (time limit, lost worker) no span is current: the message says which trace it was."""
    token = None
    if not get_current_span().get_span_context().is_valid and task is not None:
        token = context.attach(extract(task.request, getter=celery_getter))
    try:
        errors.capture_unhandled(exc, mechanism="celery")
    finally:
        if token is not None:
            context.detach(token)


def _is_second_report(exc: BaseException) -> bool:
    """Celery 5.7 sends two signals at a hard time limit: from `on_failure`, then from `on_timeout`."""
    if not isinstance(exc, TimeLimitExceeded) or exc.__traceback__ is None:
        return False
    return bool(exc.__traceback__.tb_frame.f_code.co_name == "on_timeout")


def _share_marks(exc: BaseException, stand_in: BaseException) -> None:
    """Celery logs *stand_in* next; with the marks of *exc* on it that is no second issue."""
    marks = {name: value for name, value in exc.__dict__.items() if name.startswith("__otel_sentry_")}
    stand_in.__dict__.update(marks)


def _describe_run(task: Any, task_id: Any) -> None:
    """What contrib adds at the end, or not at all, is there from the start: an error event shows it."""
    known = utils.retrieve_context(task, task_id)
    if known is None or not known[0].is_recording():
        return
    request = task.request
    attributes: dict[str, Any] = {
        "celery.task_name": task.name,
        "messaging.message.id": task_id,
        "messaging.message.retry.count": request.retries or 0,
    }
    if not request.is_eager:
        attributes["messaging.system"] = _system(task.app)
        destination = (request.delivery_info or {}).get("routing_key")
        if destination:
            attributes["messaging.destination.name"] = destination
        enqueued = _number(getattr(request, ENQUEUED_HEADER, None))
        if enqueued is not None:
            latency_ms = (time.time() - enqueued) * 1000
            attributes["messaging.message.receive.latency"] = max(0.0, round(latency_ms, 3))
        size = getattr(request, publish.SIZE_HEADER, None)
        if isinstance(size, int):
            attributes["messaging.message.body.size"] = size
    known[0].set_attributes(attributes)


def _describe_publish(current: publish.Publish | None, kwargs: dict[str, Any]) -> None:
    headers = kwargs.get("headers")
    if not headers:  # message protocol 1
        return
    headers[ENQUEUED_HEADER] = time.time()
    if current is None:
        return
    known = utils.retrieve_context(current.task, current.task_id, is_publish=True)
    if known is None or not known[0].is_recording():
        return
    attributes = {"messaging.system": _system(current.app)}
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


def _system(app: Any) -> str:
    """The broker's kind. Looks at the transport's class; connects to nothing."""
    known = _system_of_app.get(app)
    if known is None:
        driver = getattr(app.connection_for_write().get_transport_cls(), "driver_type", "")
        known = _system_of_app[app] = _SYSTEMS.get(driver, driver) or "celery"
    return known


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@guard.call("celery shutdown")
def _flush(**kwargs: Any) -> None:
    """Pool processes end without `atexit`: under ``--max-tasks-per-child=1`` everything would be lost."""
    from otel_sentry.process import flush_now

    flush_now()
