"""The mall of tests/apps/parity: its database, its environment, its processes, and browsers that are logged in."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import psycopg

from otel_sentry.cli.receiver import Receiver

ROOT = pathlib.Path(__file__).parents[2]
APP = ROOT / "tests" / "apps" / "parity"
LAUNCHER = pathlib.Path(sys.executable).with_name("opentelemetry-instrument")
_USERS = """
import django, sys
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
call_command("migrate", verbosity=0)
model = get_user_model()
model.objects.bulk_create(model(username=name, email=f"{name}@example.com") for name in sys.argv[1:])
"""


@contextlib.contextmanager
def database(postgres_url: str, *names: str) -> Iterator[str]:
    """The URL of a database with the mall's tables and users of these names; gone at the end."""
    name = f"mall_{uuid.uuid4().hex[:8]}"
    url = f"{postgres_url.rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "mall.settings", "DATABASE_URL": url, "REDIS_URL": ""}
        subprocess.run([sys.executable, "-c", _USERS, *names], cwd=APP, env=env, check=True)
        try:
            yield url
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def environ(receiver: Receiver, database_url: str, valkey_url: str, **more: str) -> dict[str, str]:
    """For the mall's processes; each call names another queue."""
    return {
        **os.environ,
        "PATH": os.pathsep.join((str(LAUNCHER.parent), os.environ.get("PATH", ""))),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "instrumentation"), str(APP))),
        "DATABASE_URL": database_url,
        "REDIS_URL": valkey_url,
        "MALL_QUEUE": f"mall-{uuid.uuid4().hex[:8]}",
        "SENTRY_DSN": receiver.dsn,
        "SENTRY_ENVIRONMENT": "development",
        "SENTRY_RELEASE": "mall@1",
        **more,
    }


@dataclass
class Processes:
    """Programs that run until the end of `processes`, each with its log."""

    folder: pathlib.Path
    env: Mapping[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[pathlib.Path] = field(default_factory=list)

    def start(self, command: list[str]) -> pathlib.Path:
        """Start *command* in the mall's folder; returns its log."""
        log = self.folder / f"{len(self.logs)}-{uuid.uuid4().hex[:6]}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=APP, env=self.env, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        self.logs.append(log)
        return log

    def wait_for(self, log: pathlib.Path, ready: str) -> re.Match[str]:
        """Wait until *log* says *ready*."""
        process = self.running[self.logs.index(log)]
        deadline = time.monotonic() + 60
        while True:
            ended = process.poll() is not None
            found = re.search(ready, log.read_text(errors="replace"))
            if found:
                return found
            assert not ended and time.monotonic() < deadline, log.read_text(errors="replace")[-6000:]
            time.sleep(0.05)

    def text(self) -> str:
        """The ends of all logs."""
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in self.logs)


@contextlib.contextmanager
def processes(folder: pathlib.Path, env: Mapping[str, str]) -> Iterator[Processes]:
    """End what was started in it in an orderly way: input closed, then SIGTERM to whoever does not go by that."""
    started = Processes(folder, env)
    try:
        yield started
    finally:
        for process in started.running:
            assert process.stdin is not None
            process.stdin.close()
            if "serve.py" not in process.args:  # type: ignore[operator]
                process.send_signal(signal.SIGTERM)
        for process in started.running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Browser:
    """One visitor of one server, logged in with `enter`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie: str | None = None

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> int:
        """The status of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            cookie = {"Cookie": self.cookie} if self.cookie else {}
            connection.request(method, path, body, {"User-Agent": "browser/1", **cookie, **(headers or {})})
            answer = connection.getresponse()
            answer.read()
            given = answer.getheader("Set-Cookie")
            if given:
                self.cookie = given.partition(";")[0]
            return answer.status
        finally:
            connection.close()

    def enter(self, name: str) -> None:
        """Log in as *name*."""
        assert self.ask(f"/enter/{name}/") == 200
