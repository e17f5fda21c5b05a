"""Servers of other projects for tests, each in an environment of its own that is made once, under `.cache`."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest

T = TypeVar("T")

CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache"


class Unavailable(RuntimeError):
    """It can't be installed or started here; the message says why."""


class Tool:
    """One package in an environment of its own."""

    def __init__(self, package: str, folder: str, version: str) -> None:
        self.home = CACHE / f"{folder}-{version}"
        self._requirement = f"{package}=={version}"

    def bin(self, name: str) -> str:
        """One of its commands."""
        return str(self.home / "venv" / "bin" / name)

    def install(self, environ: Mapping[str, str]) -> None:
        """Make the environment, unless it is there. *environ* is what pip needs to reach an index."""
        stamp = self.home / "installed"
        if stamp.exists():
            return
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        run([sys.executable, "-m", "venv", str(self.home / "venv")], environ, "venv")
        run([self.bin("python"), "-m", "pip", "install", "--quiet", self._requirement], environ, "pip")
        stamp.touch()


def run(command: list[str], env: Mapping[str, str], what: str, cwd: pathlib.Path | None = None) -> None:
    """Run *command* to its end. Raises Unavailable, with its last words."""
    try:
        done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"{what}: {exc}") from exc
    if done.returncode:
        raise Unavailable(f"{what}: {last_words(done.stderr or done.stdout)}")


def last_words(text: str) -> str:
    """The last lines of *text*, in one."""
    return " | ".join(text.splitlines()[-3:])


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, timeout: float = 5) -> None:
    """End a server in an orderly way, or else kill it."""
    process.send_signal(how)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def or_skip(server: AbstractContextManager[T], name: str) -> Iterator[T]:
    """*server*, or the test is skipped with the reason."""
    try:
        running = server.__enter__()
    except Unavailable as exc:
        pytest.skip(f"{name}: {exc}")
    try:
        yield running
    finally:
        server.__exit__(None, None, None)
