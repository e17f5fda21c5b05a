"""The demo's studio under any server and any pool, sending to a receiver; one database for each start."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import redis

from otel_sentry.cli.receiver import Receiver
from otel_sentry.demo import servers, stack
from otel_sentry.demo.traffic import Visitor

BIN = pathlib.Path(sys.executable).parent
LAUNCHER = str(BIN / "opentelemetry-instrument")


@dataclass
class Studio:
    """The running studio: *visitor* browses it, *receiver* gets what it sends."""

    receiver: Receiver
    visitor: Visitor
    env: dict[str, str]
    logs: list[pathlib.Path] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def log_text(self) -> str:
        """What all processes wrote, for the message of a failed assertion."""
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in self.logs)

    def stop(self) -> None:
        """End all processes in an orderly way and wait for them."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def studio(
    receiver: Receiver,
    postgres_url: str,
    valkey_url: str,
    *,
    web: list[str],
    worker: list[str] | None,
    ready: str = "Listening at",
    env: dict[str, str] | None = None,
    dsn: str | None = None,
) -> Iterator[Studio]:
    """Run `opentelemetry-instrument` *web* and a Celery worker with the options *worker* (None: no worker).

    ``{bind}`` in *web* becomes the address; *ready* is what the web server writes when it listens.
    """
    database = f"studio_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[arg-type]
    url = re.sub(r"/[^/]*$", f"/{database}", postgres_url)
    bind = f"127.0.0.1:{servers.free_port()}"
    with tempfile.TemporaryDirectory(prefix="otel-sentry-test-") as folder:
        base = stack.environment(
            url, _own_database(valkey_url), pathlib.Path(folder), {"SENTRY_DSN": dsn or receiver.dsn}
        )
        base.update(env or {})
        running = Studio(receiver, Visitor(f"http://{bind}"), base)
        try:
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--no-input", "-v", "0"],
                cwd=stack.STUDIO, env=base, check=True,
            )  # fmt: skip
            _start(running, folder, "web", [part.format(bind=bind) for part in web], ready)
            if worker is not None:
                command = ["celery", "-A", "studio", "worker", "--loglevel", "INFO", "--without-gossip",
                           "--without-mingle", *worker]  # fmt: skip
                _start(running, folder, "worker", command, r"celery@\S+ ready")
            yield running
        finally:
            running.stop()


_numbers = itertools.cycle(range(1, 16))


def _own_database(valkey_url: str) -> str:
    """An empty one of the server's sixteen databases: queues and caches of two starts must not mix."""
    url = re.sub(r"/\d+$", f"/{next(_numbers)}", valkey_url)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


def _start(running: Studio, folder: str, name: str, command: list[str], ready: str) -> None:
    log = pathlib.Path(folder, f"{name}.log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [LAUNCHER, *command], cwd=stack.STUDIO, env=running.env, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    running.processes.append(process)
    running.logs.append(log)
    deadline = time.monotonic() + 60
    while not re.search(ready, log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"{name} did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)
