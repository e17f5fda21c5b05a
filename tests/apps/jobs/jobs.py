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
