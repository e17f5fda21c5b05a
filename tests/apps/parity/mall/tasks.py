"""The worker's part."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import django
import sentry_sdk
from celery import Celery
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.cache import cache
from opentelemetry import trace

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mall.settings")
if not apps.ready:  # in the worker
    django.setup()
app = Celery("mall", broker=os.environ["REDIS_URL"])
app.conf.task_default_queue = os.environ.get("MALL_QUEUE", "mall")
app.conf.broker_connection_retry_on_startup = True
app.conf.task_ignore_result = True
logger = logging.getLogger(__name__)


def use_stores() -> int:
    """One query, one read of the cache."""
    cache.get("shelf")
    return int(get_user_model().objects.filter(username="ann").count())


@app.task(name="mall.fail")
def fail(order: int, password: str = "") -> None:
    logger.info("packing order %s", order)
    use_stores()
    raise LookupError("in task")


@app.task(name="mall.fail_at_last", bind=True, max_retries=1)
def fail_at_last(self: Any) -> None:
    try:
        raise TimeoutError("in retried task")
    except TimeoutError as exc:
        raise self.retry(exc=exc, countdown=0) from exc


@app.task(name="mall.fine")
def fine() -> None:
    use_stores()


@app.task(name="mall.pack")
def pack(number: int) -> None:
    """One span of its own, one query; each fourth fails."""
    with trace.get_tracer("mall").start_as_current_span("wrap"):
        get_user_model().objects.filter(pk=number).exists()
    if number % 4 == 0:
        raise LookupError(f"task {number}")


@app.task(name="mall.talk")
def talk(name: str) -> None:
    """Leaves *name* wherever telemetry looks, while others do the same."""
    speak(f"task-{name}", name)


def speak(who: str, name: str) -> None:
    """Logs, breadcrumbs, a span and, for odd names, an error, with pauses for others."""
    logger.info("%s begins, says %s", who, name)
    sentry_sdk.add_breadcrumb(message=f"crumb of {name}")
    sentry_sdk.set_tag("says", name)
    with trace.get_tracer("mall").start_as_current_span(f"speech of {name}", attributes={"speaker": name}):
        time.sleep(0.01)
        get_user_model().objects.filter(username=f"asked by {name}").exists()
        time.sleep(0.01)
    logger.warning("%s ends", name)
    if name[-2] in "13579":
        raise RuntimeError(f"{who} failed for {name}")
