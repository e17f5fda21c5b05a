"""A task's failure as one issue: the real exception, in the right trace, grouped by task where only that helps."""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

import sys
from typing import Any

from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, TimeLimitExceeded
from celery.utils.serialization import UnpickleableExceptionWrapper
from opentelemetry import context
from opentelemetry.trace import get_current_span

from otel_sentry import errors, guard
from otel_sentry.trace.dsc import current_settings
from otel_sentry_celery import run


def of_signal(kwargs: dict[str, Any]) -> BaseException | None:
    """The exception of ``task_failure`` that is to be an issue; None for what is planned, or reported twice."""
    exc = _raised(kwargs.get("exception"))
    # contrib tests `throws` against billiard's wrapper, never finds it and marks the span as failed.
    # Reject arrives here from the main process, for tasks that acknowledge late.
    # `throws` may be one class, as Celery has it.
    expected = (getattr(kwargs.get("sender"), "throws", None) or (), Ignore, Reject, Retry)
    return None if exc is None or isinstance(exc, expected) or _is_second_report(exc) else exc


def report(kwargs: dict[str, Any], exc: BaseException) -> None:
    """Make the issue; Celery logs stand-ins for *exc* next, and these are no second one."""
    with guard.block("celery failure"):
        _capture(kwargs, exc)
        for stand_in in (kwargs.get("exception"), getattr(kwargs.get("einfo"), "exception", None)):
            if stand_in is not None and stand_in is not exc:
                _share_marks(exc, stand_in)


def _raised(reported: BaseException | None) -> BaseException | None:
    """The exception that the task raised; *reported* is a stand-in for it where it can't be pickled."""
    live = sys.exc_info()[1]
    if live is None or reported is None:
        return reported
    stands_in = isinstance(reported, UnpickleableExceptionWrapper) or isinstance(live, type(reported))
    return live if stands_in else reported


def _capture(kwargs: dict[str, Any], exc: BaseException) -> None:
    """In the main process (time limit, lost worker) no span is current: the message says which trace it was."""
    task = kwargs.get("sender")
    fields: dict[str, Any] = {}
    if task is not None and isinstance(exc, (SoftTimeLimitExceeded, TimeLimitExceeded)):
        # Raised wherever the task happens to be: each time another stack trace.
        fields["fingerprint"] = ["celery", type(exc).__name__, task.name]
    token = None
    if not get_current_span().get_span_context().is_valid and task is not None:
        settings = current_settings()
        token = context.attach(run.context_of(task.request, settings.celery_context))
        job = run.job(task.name, kwargs.get("args"), kwargs.get("kwargs"), settings.send_default_pii)
        fields["more"] = {"transaction": task.name, "extra": job}
        fields["tags"] = {"celery_task_id": str(kwargs.get("task_id"))}
    try:
        errors.capture_unhandled(exc, mechanism="celery", **fields)
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
