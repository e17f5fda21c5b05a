"""Release health and profiles with real servers."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.services.test_celery import APP
from tests.services.test_celery import environ as jobs_environ
from tests.services.test_django import LAUNCHER, get, running
from tests.support.relay import assert_relay_ok
from tests.support.servers import free_port

pytestmark = pytest.mark.services


def sessions(receiver: Receiver) -> dict[str, int]:
    """Sessions by status, over all items, minutes and processes."""
    found: dict[str, int] = {}
    for item in receiver.items("sessions"):
        assert item["attrs"] == {"release": "small@1", "environment": "development"}
        for aggregate in item["aggregates"]:
            for status in aggregate.keys() - {"started"}:
                found[status] = found.get(status, 0) + aggregate[status]
    return found


def chunks(receiver: Receiver) -> list[dict[str, Any]]:
    """The profile chunks that arrived."""
    items = [item for one in receiver.envelopes for item in one.items if item.type == "profile_chunk"]
    return [json.loads(item.payload) for item in items]


@pytest.mark.parametrize("rate", ["1", "0"])
def test_sessions_add_up(receiver: Receiver, rate: str) -> None:
    """gunicorn --preload, 2 workers, 30 requests, 5 logged errors, 3 crashes: each counted once, sampled or not."""
    port = free_port()
    bind = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "gunicorn", "small.wsgi", "--preload", "--workers", "2", "--bind", bind]
    paths = ["/"] * 12 + ["/logged/"] * 5 + ["/boom/"] * 3 + ["/missing/"] * 5 + ["/items/3/"] * 5
    with running(receiver, command, port, SENTRY_TRACES_SAMPLE_RATE=rate, SENTRY_PROFILES_SAMPLE_RATE="0"):
        polled = 1  # `running` asks for / until it answers: the time that it did
        for path in paths[polled:]:
            assert get(port, path) == {"/boom/": 500, "/missing/": 404}.get(path, 200)
        assert receiver.items("sessions") == []  # once a minute
    receiver.wait_for(lambda one: sum(sessions(one).values()) >= len(paths))
    assert sessions(receiver) == {"exited": 22, "errored": 5, "crashed": 3}
    assert len(receiver.items("sessions")) <= 2
    assert bool(receiver.transactions) is (rate == "1")


def test_a_recycled_worker_sends_its_sessions(receiver: Receiver) -> None:
    """gunicorn --max-requests: the workers that end in between have sent what they counted."""
    port = free_port()
    bind = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "gunicorn", "small.wsgi", "--max-requests", "5", "--bind", bind]
    with running(receiver, command, port, SENTRY_PROFILES_SAMPLE_RATE="0"):
        for _ in range(11):
            get(port, "/")
        receiver.wait_for(lambda one: len(one.items("sessions")) >= 2)
    receiver.wait_for(lambda one: sum(sessions(one).values()) >= 12)
    assert sessions(receiver) == {"exited": 12}


def test_sessions_without_traces_at_all(receiver: Receiver) -> None:
    """OTEL_TRACES_EXPORTER=none, "errors only": release health is part of that."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "small.wsgi", "--bind", f"127.0.0.1:{port}"]
    with running(receiver, command, port, OTEL_TRACES_EXPORTER="none"):
        assert get(port, "/boom/") == 500
    receiver.wait_for(sessions)
    assert sessions(receiver) == {"exited": 1, "crashed": 1}
    assert receiver.transactions == []


def test_a_celery_worker_makes_no_sessions(receiver: Receiver, valkey_url: str, tmp_path: pathlib.Path) -> None:
    """Tasks, failed ones among them, are no requests."""
    env = jobs_environ(valkey_url, tmp_path)
    env |= {"SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "development", "SENTRY_RELEASE": "small@1"}
    command = [str(LAUNCHER), sys.executable, "-m", "celery", "-A", "jobs", "worker", "--concurrency=1"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, env=env, cwd=APP, stdout=log, stderr=log)
    try:
        code = "import jobs; jobs.add.delay(1, 2); jobs.fail.delay()"
        subprocess.run([sys.executable, "-c", code], env=env, cwd=APP, check=True, timeout=60)
        receiver.wait_for(lambda one: one.events and len(one.transactions) >= 2, timeout=40)
    finally:
        worker.terminate()
        worker.wait(30)
    assert receiver.items("sessions") == []


def test_a_profiled_request_delivers_its_chunk(receiver: Receiver) -> None:
    """The profiler's id on the transaction is that of a chunk that arrives, and so is the thread."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "small.wsgi", "--preload", "--bind", f"127.0.0.1:{port}"]
    with running(receiver, command, port, SENTRY_PROFILES_SAMPLE_RATE="1"):
        deadline = time.monotonic() + 30
        while not any("profile" in one["contexts"] for one in receiver.transactions):
            assert time.monotonic() < deadline, receiver.summary()
            get(port, "/slow/")
    receiver.wait_for(chunks)
    by_id = {chunk["profiler_id"]: chunk for chunk in chunks(receiver)}
    profiled = [one for one in receiver.transactions if "profile" in one["contexts"]]
    for one in profiled:
        chunk = by_id[one["contexts"]["profile"]["profiler_id"]]
        threads = {sample["thread_id"] for sample in chunk["profile"]["samples"]}
        assert one["contexts"]["trace"]["data"]["thread.id"] in threads
        assert_relay_ok(one)
    frames = {frame["function"] for chunk in by_id.values() for frame in chunk["profile"]["frames"]}
    assert "slow" in frames


def test_profiles_under_gevent(receiver: Receiver) -> None:
    """With patched threads the sampler runs in a thread of gevent's pool; the worker still ends when it is told to."""
    port = free_port()
    bind = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "gunicorn", "small.wsgi", "-k", "gevent", "--bind", bind]
    with running(receiver, command, port, SENTRY_PROFILES_SAMPLE_RATE="1"):
        deadline = time.monotonic() + 30
        while not any("profile" in one["contexts"] for one in receiver.transactions):
            assert time.monotonic() < deadline, receiver.summary()
            get(port, "/slow/")
        began = time.monotonic()
    assert time.monotonic() - began < 10
    by_id = {chunk["profiler_id"]: chunk for chunk in receiver.wait_for(chunks)}
    for one in (one for one in receiver.transactions if "profile" in one["contexts"]):
        chunk = by_id[one["contexts"]["profile"]["profiler_id"]]
        threads = {sample["thread_id"] for sample in chunk["profile"]["samples"]}
        assert one["contexts"]["trace"]["data"]["thread.id"] in threads
    assert sum(sessions(receiver).values()) > 0


def test_a_task_in_a_pool_child_is_profiled(receiver: Receiver, valkey_url: str, tmp_path: pathlib.Path) -> None:
    """Celery's prefork children run the profiler themselves, and their chunks leave before they end."""
    env = jobs_environ(valkey_url, tmp_path)
    env |= {"SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "development", "SENTRY_PROFILES_SAMPLE_RATE": "1"}
    command = [str(LAUNCHER), sys.executable, "-m", "celery", "-A", "jobs", "worker", "--concurrency=1"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, env=env, cwd=APP, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 40
        while not any("profile" in one["contexts"] for one in receiver.transactions):
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            code = "import jobs, time; jobs.nap.delay(0.3); time.sleep(0.5)"
            subprocess.run([sys.executable, "-c", code], env=env, cwd=APP, check=True, timeout=60)
    finally:
        worker.terminate()
        worker.wait(30)
    ids = {one["contexts"]["profile"]["profiler_id"] for one in receiver.transactions if "profile" in one["contexts"]}
    assert ids <= {chunk["profiler_id"] for chunk in receiver.wait_for(chunks)}
