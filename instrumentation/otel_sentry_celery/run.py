"""The CONSUMER span of one run of a task: whose child it is, what it says from its start, and what came with it.

contrib's own start says nothing but the name, so that a sampler sees nothing else, and an error event neither.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.celery import celery_getter, utils
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, SpanKind

from otel_sentry import ambient
from otel_sentry.trace.dsc import current_settings
from otel_sentry.trace.segment import REMOTE_KEY, segment_of
from otel_sentry_celery.system import CONTEXT_HEADER, ENQUEUED_HEADER, SIZE_HEADER, system_of

_HIDDEN = "[Filtered]"


def start(tracer: trace.Tracer, task: Any, task_id: str, kwargs: Mapping[str, Any], default: str = "child") -> None:
    """Begin the span, make it the current one, and leave it where contrib's end finds it.

    *kwargs* are the signal's; *default* is the policy (child, link, new) where the setting names none.
    """
    request = task.request
    context, links = _parent(task, request, default)
    span = tracer.start_span(
        f"run/{task.name}",
        context=context,
        kind=SpanKind.CONSUMER,
        links=links or (),
        attributes=_attributes(task, task_id, request),
    )
    token = otel_context.attach(context) if context is not None else None
    activation = trace.use_span(span, end_on_exit=True)
    activation.__enter__()
    utils.attach_context(task, task_id, span, activation, token)
    segment = segment_of(span.get_span_context())
    if segment is not None and segment.live_root is span:
        segment.tags["celery_task_id"] = task_id
        segment.extra = partial(job, task.name, kwargs.get("args"), kwargs.get("kwargs"))


def context_of(request: Any, wanted: tuple[str, ...]) -> Context:
    """What the message says: trace, baggage, user and operation."""
    context = extract(request, getter=celery_getter)
    values = getattr(request, CONTEXT_HEADER, None)
    return ambient.restore(values, context, wanted) if values else context


def job(name: str, args: Any, kwargs: Any, pii: bool) -> dict[str, Any]:
    """`extra` of an issue, as sentry-python has it: the arguments with PII only."""
    return {
        "celery-job": {"task_name": name, "args": args if pii else _HIDDEN, "kwargs": kwargs if pii else _HIDDEN},
    }


def _parent(task: Any, request: Any, default: str) -> tuple[Context | None, list[Link] | None]:
    """The context to start in (None: the current one, for an eager task) and the links."""
    settings = current_settings()
    context = context_of(request, settings.celery_context)
    policy = _policy(settings.celery_trace, task.name) or default
    if request.is_eager or policy == "child":
        return context or None, None
    publisher = trace.get_current_span(context).get_span_context()
    links = [Link(publisher)] if policy == "link" and publisher.is_valid else None
    context = trace.set_span_in_context(trace.INVALID_SPAN, context)
    return otel_context.set_value(REMOTE_KEY, None, context), links


@lru_cache(maxsize=1024)
def _policy(policies: tuple[tuple[str, str], ...], name: str) -> str | None:
    return next((policy for pattern, policy in policies if fnmatchcase(name, pattern)), None)


def _attributes(task: Any, task_id: str, request: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "celery.action": "run",
        "celery.task_name": task.name,
        "messaging.message.id": task_id,
        "messaging.message.retry.count": request.retries or 0,
    }
    if request.is_eager:
        return attributes
    attributes["messaging.system"] = system_of(task.app)
    destination = (request.delivery_info or {}).get("routing_key")
    if destination:
        attributes["messaging.destination.name"] = destination
    enqueued = _number(getattr(request, ENQUEUED_HEADER, None))
    if enqueued is not None:
        latency_ms = (time.time() - enqueued) * 1000
        attributes["messaging.message.receive.latency"] = max(0.0, round(latency_ms, 3))
    size = getattr(request, SIZE_HEADER, None)
    if isinstance(size, int):
        attributes["messaging.message.body.size"] = size
    return attributes


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
