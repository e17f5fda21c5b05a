"""`tag_business_operation`: business context for all inside, and the operation's own measurement."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from otel_sentry import ambient, guard
from otel_sentry.ambient import AMBIENT_KEY, Ambient, Business
from otel_sentry.blocks import Block, Opened, plain_name
from otel_sentry.business import metrics
from otel_sentry.trace.segment import Segment, segment_of

#: Seconds; by operation, module and outcome (ok, error). It counts the operations too.
DURATION = "business.operation.duration"
#: Modules that are no home of an operation.
_OURS = "otel_sentry"


class tag_business_operation(Block[None]):
    """Business context for all inside: spans, errors and logs. It counts and times itself, whatever sampling says.

    Decorator and context manager, for functions, coroutines and generators::

        @tag_business_operation("post_creation", module="posts")
        def create_post(request): ...

    Args:
        name: the operation; keep it free of ids, it is the metric's label.
        module: the part of the business. Default: the Django app of the running view, else the top package of the task,
            else that of the decorated function (or of the code that has the block).
        details: further values; primitive ones stay as they are, others become text.

    The metric is ``business.operation.duration`` in seconds, by ``operation``, ``module`` and ``outcome`` (ok, error).

    """

    def __init__(self, name: str, module: str | None = None, **details: Any) -> None:
        super().__init__()
        self._business = Business(plain_name(name) or "?", plain_name(module), details or None)
        self._package: str | None = None

    def _take_from(self, function: Callable[..., Any]) -> None:
        self._package = _package(getattr(function, "__module__", None))

    def __enter__(self) -> None:
        if self._package is None and self._business.module is None:
            self._package = _package(sys._getframe(1).f_globals.get("__name__"))
        super().__enter__()

    def _open(self) -> Opened:
        business = self._business
        span = get_current_span()
        segment = segment_of(span.get_span_context())
        if business.module is None:
            business = replace(business, module=_running_module(segment) or self._package)
        context = otel_context.set_value(AMBIENT_KEY, Ambient(ambient.current(segment).user, business))
        if span.is_recording():
            span.set_attributes(business.attributes())
        started = time.perf_counter()

        def close(exc: BaseException | None) -> None:
            failed = exc is not None and not isinstance(exc, GeneratorExit)
            if failed and exc is not None:
                ambient.remember_business(exc, business)
            metrics.distribution(
                DURATION,
                time.perf_counter() - started,
                "s",
                operation=business.operation,
                module=business.module,
                outcome="error" if failed else "ok",
            )

        return Opened(context, None, close)


def _running_module(segment: Segment | None) -> str | None:
    """The Django app of the running view, else the top package of the running task."""
    if segment is None:
        return None
    if segment.module is not None:
        with guard.block("module of the running view"):
            found = segment.module()
            if found:
                return str(found)
    task = (getattr(segment.live_root, "attributes", None) or {}).get("celery.task_name")
    return _package(task) if isinstance(task, str) and "." in task else None


def _package(module: str | None) -> str | None:
    top = (module or "").partition(".")[0]
    return top if top and top != _OURS else None
