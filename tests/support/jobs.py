"""Celery with `tests/apps/jobs` under the launcher."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

APP = pathlib.Path(__file__).parent.parent / "apps" / "jobs"
LAUNCHER = pathlib.Path(sys.executable).with_name("opentelemetry-instrument")


@contextlib.contextmanager
def launched(arguments: list[str], env: dict[str, str], log: pathlib.Path) -> Iterator[None]:
    """A worker or a beat; ended with SIGTERM, as a deployment does."""
    command = [str(LAUNCHER), sys.executable, "-m", "celery", *arguments]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=env, cwd=APP, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
        print(log.read_text())
