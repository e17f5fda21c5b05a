"""The main job on real servers: a request, its task, their queries and their errors are one trace, everywhere."""

from __future__ import annotations

import time

import pytest

from otel_sentry.cli.receiver import Receiver
from otel_sentry.demo import checks, traffic
from tests.support.relay import assert_relay_ok
from tests.support.studio import Studio, studio

pytestmark = pytest.mark.services

GUNICORN = ["gunicorn", "studio.wsgi", "--bind", "{bind}", "--workers", "2"]
RUNSERVER = ["python", "manage.py", "runserver", "{bind}"]

#: Done 2, and the pools and servers that are part of it: web server, what it says when ready, the worker's options.
STACKS = {
    "gunicorn sync, prefork": (GUNICORN, "Listening at", ["--pool=prefork", "-c", "2"]),
    "gunicorn --preload, recycled after each task": (
        [*GUNICORN, "--preload"], "Listening at", ["--pool=prefork", "-c", "2", "--max-tasks-per-child=1"],
    ),
    "runserver with autoreload, solo": (RUNSERVER, "Starting .*development server|Watching for", ["--pool=solo"]),
    "gunicorn gthread, threads": ([*GUNICORN, "--threads", "4"], "Listening at", ["--pool=threads", "-c", "4"]),
    "gunicorn gevent, gevent": ([*GUNICORN, "-k", "gevent"], "Listening at", ["--pool=gevent", "-c", "10"]),
}  # fmt: skip


def _settled(receiver: Receiver, seconds: float = 1.0) -> None:
    """Wait until nothing new arrived for *seconds*."""
    seen = -1
    while seen != len(receiver.attempts):
        seen = len(receiver.attempts)
        time.sleep(seconds)


#: What differs between versions shows in the others.
_ONCE = ("gunicorn gthread, threads", "runserver with autoreload, solo")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.once] * (kind in _ONCE)) for kind in STACKS])
def test_visit_arrives_as_one_trace_each(kind: str, receiver: Receiver, postgres_url: str, valkey_url: str) -> None:
    """Each of the visitor's steps: one trace with the right names, parents, status, spans, and exactly its issues."""
    web, ready, worker = STACKS[kind]
    with studio(receiver, postgres_url, valkey_url, web=web, ready=ready, worker=worker) as running:
        _wait_until_up(running)
        receiver.clear()
        for step in traffic.STEPS:
            assert step.act(running.visitor) == step.status, running.log_text()
            try:
                receiver.wait_for(lambda r, s=step: checks.complete(s, r.transactions, r.events), 15)  # type: ignore[misc]
            except TimeoutError:
                pass
            _settled(receiver, 0.3)
            problems = checks.missing(step, receiver.transactions, receiver.events)
            assert problems == [], f"{step.title}: {problems}\n{running.log_text()}"
            for event in [*receiver.transactions, *receiver.events]:
                assert_relay_ok(event)
            receiver.clear()
        assert receiver.faults == []


def _wait_until_up(running: Studio) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            running.visitor.get("/posts/999/")
            return
        except OSError:
            assert time.monotonic() < deadline, running.log_text()
            time.sleep(0.1)


def test_recycled_children_lose_nothing(receiver: Receiver, postgres_url: str, valkey_url: str) -> None:
    """--max-tasks-per-child=1, 20 tasks: 20 of 20 arrive (stock OpenTelemetry: 0 of 20, contrib#4916)."""
    web, ready, _ = STACKS["gunicorn sync, prefork"]
    worker = ["--pool=prefork", "-c", "2", "--max-tasks-per-child=1"]
    with studio(receiver, postgres_url, valkey_url, web=web, ready=ready, worker=worker) as running:
        for _ in range(20):
            assert running.visitor.post_json("/posts/", title="x") == 201
        names = lambda r: [t["transaction"] for t in r.transactions]  # noqa: E731
        receiver.wait_for(lambda r: names(r).count("posts.tasks.render_post") >= 20, 30)
        _settled(receiver)
    assert names(receiver).count("posts.tasks.render_post") == 20
    assert names(receiver).count("POST /posts/") == 20


def test_incoming_trace_is_continued_by_request_and_task(
    receiver: Receiver, postgres_url: str, valkey_url: str
) -> None:
    """A request with sentry-trace and baggage: request and task are of the sender's trace, with its frozen DSC."""
    import urllib.request

    web, ready, worker = STACKS["gunicorn sync, prefork"]
    trace_id = "a" * 32
    with studio(receiver, postgres_url, valkey_url, web=web, ready=ready, worker=worker) as running:
        request = urllib.request.Request(
            running.visitor.url + "/posts/",
            b'{"title": "x"}',
            {
                "Content-Type": "application/json",
                "sentry-trace": f"{trace_id}-{'b' * 16}-1",
                "baggage": f"other=1,sentry-trace_id={trace_id},sentry-public_key=k,"
                "sentry-release=front@1,sentry-sample_rate=0.5",
            },
        )
        urllib.request.urlopen(request, timeout=10).close()
        receiver.wait_for(lambda r: len(r.transactions) >= 2, 20)
    assert {t["contexts"]["trace"]["trace_id"] for t in receiver.transactions} == {trace_id}
    for envelope in receiver.envelopes:
        if any(item.type == "transaction" for item in envelope.items):
            assert envelope.trace["release"] == "front@1" and envelope.trace["sample_rate"] == "0.5"
