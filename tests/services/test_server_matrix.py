"""Every server and every pool once: each span and each error of requests with a task arrives, exactly once."""

from __future__ import annotations

import collections
import pathlib
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support import mall
from tests.support.servers import free_port

pytestmark = [pytest.mark.services, pytest.mark.once]
REQUESTS = 24
FAILURES = sorted(range(4, REQUESTS + 1, 4))
VIEW, TASK = "GET /pack/<int:number>/", "mall.pack"
#: Operations in one transaction: the root, a span of the application's own, its query; the view publishes.
SPANS = {
    VIEW: ["http.server", "choose", "db", "queue.publish"],
    TASK: ["queue.process", "wrap", "db"],
}


class Stack(NamedTuple):
    """A web server, the options of a worker."""

    web: list[str]
    pool: list[str]


GUNICORN = ["gunicorn", "mall.wsgi", "--bind", "127.0.0.1:{port}", "--log-level", "warning"]
STACKS = {
    "gunicorn sync, prefork": Stack([*GUNICORN, "--workers", "2"], ["prefork", "-c", "2"]),
    "gunicorn --preload, recycle 1": Stack(
        [*GUNICORN, "--preload", "--workers", "2"], ["prefork", "-c", "2", "--max-tasks-per-child=1"],
    ),
    "gunicorn gthread, threads": Stack([*GUNICORN, "--threads", "8"], ["threads", "-c", "8"]),
    "gunicorn gevent, gevent": Stack([*GUNICORN, "-k", "gevent"], ["gevent", "-c", "20"]),
    "runserver, solo": Stack(["python", "manage.py", "runserver", "127.0.0.1:{port}"], ["solo"]),
    "uvicorn, prefork": Stack(["uvicorn", "mall.asgi:application", "--port", "{port}"], ["prefork", "-c", "1"]),
    "uWSGI, solo": Stack(
        ["uwsgi", "--http", "127.0.0.1:{port}", "--module", "mall.wsgi", "--enable-threads", "--threads", "4",
         "--lazy-apps", "--die-on-term"],
        ["solo"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def database_url(postgres_url: str) -> Iterator[str]:
    with mall.database(postgres_url) as url:
        yield url


@pytest.mark.parametrize("kind", STACKS)
def test_all_spans_and_errors_arrive(
    kind: str, receiver: Receiver, database_url: str, valkey_url: str, tmp_path: pathlib.Path
) -> None:
    """Concurrent requests, each with a task, each fourth failing in both: 168 of 168 spans, 12 of 12 errors."""
    stack, port = STACKS[kind], free_port()
    if shutil.which(stack.web[0], path=str(mall.LAUNCHER.parent)) is None:
        pytest.skip(f"{stack.web[0]} is not installed: it has no wheel, and building it takes a C compiler")
    env = mall.environ(receiver, database_url, valkey_url)
    with mall.processes(tmp_path, env) as running:
        running.start([str(mall.LAUNCHER), *(part.format(port=port) for part in stack.web)])
        worker = running.start([
            str(mall.LAUNCHER), "celery", "-A", "mall.tasks", "worker", "-l", "INFO", "--without-gossip",
            "--without-mingle", "-P", *stack.pool,
        ])  # fmt: skip
        running.wait_for(worker, r"celery@\S+ ready")
        wait_until_up(port, running)
        with ThreadPoolExecutor(8) as pool:
            browsers = [mall.Browser(port) for _ in range(REQUESTS)]
            answers = list(pool.map(lambda n: browsers[n - 1].ask(f"/pack/{n}/"), range(1, REQUESTS + 1)))
        assert answers.count(500) == len(FAILURES) and answers.count(200) == REQUESTS - len(FAILURES)
        try:
            receiver.wait_for(lambda one: len(packed(one)) >= 2 * REQUESTS and len(one.events) >= 2 * len(FAILURES), 20)
        except TimeoutError:
            pass  # the counts say more
    report(kind, receiver)
    check(receiver)


def wait_until_up(port: int, running: mall.Processes) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            mall.Browser(port).ask("/nowhere/")
            return
        except OSError:
            assert time.monotonic() < deadline, running.text()
            time.sleep(0.1)


def packed(receiver: Receiver) -> list[dict[str, Any]]:
    return [one for one in receiver.transactions if one["transaction"] in SPANS]


def operations(transaction: dict[str, Any]) -> list[str]:
    """Of the root and of each span; the application's own go by their names."""
    found = [span.get("op") or span["description"] for span in transaction["spans"]]
    return [transaction["contexts"]["trace"]["op"], *found]


def report(kind: str, receiver: Receiver) -> None:
    spans = sum(len(operations(one)) for one in packed(receiver))
    expected = REQUESTS * sum(map(len, SPANS.values()))
    print(f"{kind}: {spans} of {expected} spans, {len(receiver.events)} of {2 * len(FAILURES)} errors")


def check(receiver: Receiver) -> None:
    """Nothing is missing, nothing came twice, and each task is in its request's trace."""
    assert receiver.faults == []
    by_name: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for one in packed(receiver):
        by_name[one["transaction"]].append(one)
        assert sorted(operations(one)) == sorted(SPANS[one["transaction"]])
    traces = {name: sorted(one["contexts"]["trace"]["trace_id"] for one in found) for name, found in by_name.items()}
    assert len(set(traces[VIEW])) == len(traces[VIEW]) == REQUESTS
    assert traces[TASK] == traces[VIEW]
    messages = sorted(event["exception"]["values"][-1]["value"] for event in receiver.events)
    assert messages == sorted(f"{place} {number}" for place in ("view", "task") for number in FAILURES)
