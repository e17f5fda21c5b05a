"""contrib's CeleryInstrumentor with more on the spans, failures as issues, check-ins, a flush when a worker ends."""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

from typing import Any

import wrapt
from celery import signals
from celery.app.base import Celery  # not from `celery`: that is half imported when the distro's hook runs
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from kombu.messaging import Producer
from opentelemetry.instrumentation.celery import CeleryInstrumentor as _Contrib

from otel_sentry import guard
from otel_sentry.instrumentor import OneInstance
from otel_sentry_celery import crons, failures, publish, run


class CeleryInstrumentor(OneInstance, _Contrib):
    """Use it as contrib's, `use_span_links` included."""

    _use_span_links = False  # older versions of contrib do not know it

    def _instrument(self, **kwargs: Any) -> None:
        # contrib connects the methods that are overridden below.
        super()._instrument(**kwargs)
        signals.worker_process_shutdown.connect(_flush, weak=False)
        signals.worker_shutdown.connect(_flush, weak=False)
        crons.install()
        wrapt.wrap_function_wrapper(Celery, "send_task", publish.send_task)
        if hasattr(Producer, "_publish"):  # private: without it the body's size is missing, and its commands are seen
            wrapt.wrap_function_wrapper(Producer, "_publish", publish.deliver)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        signals.worker_process_shutdown.disconnect(_flush)
        signals.worker_shutdown.disconnect(_flush)
        crons.uninstall()
        setattr(Celery, "send_task", Celery.send_task.__wrapped__)
        sending: Any = getattr(Producer, "_publish", None)
        if sending is not None:
            setattr(Producer, "_publish", sending.__wrapped__)

    def _trace_prerun(self, *args: Any, **kwargs: Any) -> None:
        task, task_id = kwargs.get("task"), kwargs.get("task_id")
        if task is None or task_id is None:
            return
        with guard.block("celery task start"):
            self.update_task_duration_time(task_id)
            run.start(self._tracer, task, task_id, kwargs, "link" if self._use_span_links else "child")
            crons.begin(task.request)

    def _trace_postrun(self, *args: Any, **kwargs: Any) -> None:
        task = kwargs.get("task")
        if task is not None:
            with guard.block("celery task end"):
                crons.end(task.request, kwargs.get("state"), kwargs.get("retval"))
        super()._trace_postrun(*args, **kwargs)

    def _trace_before_publish(self, *args: Any, **kwargs: Any) -> None:
        current = publish.current()
        if current is not None:
            with guard.block("celery publish"):
                publish.begin(current, kwargs)
        super()._trace_before_publish(*args, **kwargs)
        with guard.block("celery publish"):
            publish.describe(current, kwargs)

    @staticmethod
    def _trace_after_publish(*args: Any, **kwargs: Any) -> None:
        current = publish.current()
        if current is not None and current.task is not None:
            kwargs["sender"] = current.task
        _Contrib._trace_after_publish(*args, **kwargs)

    @staticmethod
    def _trace_failure(*args: Any, **kwargs: Any) -> None:
        if isinstance(kwargs.get("exception"), (TimeLimitExceeded, WorkerLostError)):
            crons.killed(getattr(kwargs.get("sender"), "request", None))
        exc = failures.of_signal(kwargs)
        if exc is not None:
            _Contrib._trace_failure(*args, **kwargs)
            failures.report(kwargs, exc)


@guard.call("celery shutdown")
def _flush(**kwargs: Any) -> None:
    """Pool processes end without `atexit`: under ``--max-tasks-per-child=1`` everything would be lost."""
    from otel_sentry.process import flush_now

    flush_now(last=True)
