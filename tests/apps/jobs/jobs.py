"""A Celery application for tests. Knows nothing of telemetry."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject

app = Celery("jobs", broker=os.environ["JOBS_BROKER"], backend=os.environ.get("JOBS_BACKEND", "rpc://"))
app.conf.task_default_queue = os.environ.get("JOBS_QUEUE", "jobs")
app.conf.result_extended = False
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_connection_timeout = 1
app.conf.broker_transport_options = {"socket_connect_timeout": 1, "socket_timeout": 5}


class Expected(Exception):
    """Part of the plan."""


class Unpicklable(Exception):
    """Can't be made again from its `args`."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.lock = lambda: second


@app.task(name="jobs.add")
def add(a: int, b: int) -> int:
    return a + b


@app.task(name="jobs.eager")
def eager() -> None:
    pass


@app.task(name="jobs.fail")
def fail(text: str = "boom") -> None:
    raise ValueError(text)


@app.task(name="jobs.fail_unpicklable")
def fail_unpicklable() -> None:
    raise Unpicklable("one", "two")


@app.task(name="jobs.fail_as_planned", throws=(Expected,))
def fail_as_planned() -> None:
    raise Expected("fine")


@app.task(name="jobs.ignore")
def ignore() -> None:
    raise Ignore


@app.task(name="jobs.reject", acks_late=True)
def reject() -> None:
    raise Reject("no", requeue=False)


@app.task(name="jobs.retry_once", bind=True, max_retries=2)
def retry_once(self: Any) -> int:
    if self.request.retries == 0:
        raise self.retry(exc=ValueError("again"), countdown=0.1)
    return int(self.request.retries)


@app.task(name="jobs.nap")
def nap(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="jobs.too_slow", time_limit=1)
def too_slow() -> None:
    time.sleep(30)


@app.task(name="jobs.too_slow_to_finish", soft_time_limit=1)
def too_slow_to_finish() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        time.sleep(0.01)


@app.task(name="jobs.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="jobs.replaced", bind=True)
def replaced(self: Any) -> Any:
    raise self.replace(add.s(5, 5))


@app.task(name="jobs.parent")
def parent() -> None:
    add.delay(6, 6)


@app.task(name="jobs.fail_with")
def fail_with(account: str, password: str) -> None:
    raise ValueError("with arguments")


@app.task(name="jobs.fail_at_last", bind=True, max_retries=1)
def fail_at_last(self: Any) -> None:
    raise self.retry(exc=ValueError("at last"), countdown=0)


@app.task(name="jobs.fail_once", bind=True, max_retries=1)
def fail_once(self: Any) -> None:
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@app.task(name="jobs.total_of")
def total_of(number: int) -> int:
    return number


@app.task(name="jobs.hold")
def hold(owner: str) -> None:
    from opentelemetry import trace

    with trace.get_tracer("jobs").start_as_current_span(f"for {owner}"):
        time.sleep(0.01)
        raise LookupError(owner)
