"""Make a virtual environment with one set of requirements and this project in it, unless it is there already.

usage: python3 scripts/env.py FOLDER REQUIREMENTS

Needs Python 3.10+ with venv and pip, nothing else. A second run with the same inputs returns at once. Shows a
line that moves while pip works: its own output is silent or endless.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLOOR = (3, 10)


def python_of(folder: pathlib.Path) -> str:
    """The interpreter inside the environment."""
    return str(folder / "bin" / "python")


def ensure(folder: pathlib.Path, requirements: pathlib.Path, python: str, show: bool = True) -> None:
    """Bring *folder* up to *requirements*. Raises RuntimeError with pip's last lines."""
    wanted = _fingerprint(requirements, python)
    stamp = folder / ".otel-sentry-stamp"
    if stamp.exists() and stamp.read_text() == wanted and pathlib.Path(python_of(folder)).exists():
        return
    name = os.path.relpath(folder, ROOT)
    if show:
        print(f"setting up {name} (about a minute, once)", flush=True)
    began = time.monotonic()
    stamp.unlink(missing_ok=True)
    if not _usable(folder):
        shutil.rmtree(folder, ignore_errors=True)
        _run([python, "-m", "venv", str(folder)], "venv (on Debian: apt install python3-venv)", False)
    pip = [python_of(folder), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    _run([*pip, "-r", str(requirements)], "installing", show)
    _run([*pip, "--no-deps", "-e", str(ROOT)], "installing otel-sentry", show)
    stamp.write_text(wanted)
    if show:
        print(f"{name} is ready after {time.monotonic() - began:.0f} s", flush=True)


def _fingerprint(requirements: pathlib.Path, python: str) -> str:
    version = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(version.encode())
    for file in (requirements, ROOT / "pyproject.toml"):
        digest.update(file.read_bytes())
    return f"{digest.hexdigest()}\n"


def _usable(folder: pathlib.Path) -> bool:
    """Does it hold a working interpreter with pip? (An interrupted or a moved one does not.)"""
    python = python_of(folder)
    if not pathlib.Path(python).exists():
        return False
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _run(command: list[str], what: str, show: bool) -> None:
    lines: list[str] = []
    packages = 0
    moving = show and sys.stdout.isatty()
    shown = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            packages += line.lstrip().startswith(("Collecting ", "Requirement already", "Obtaining "))
            if moving:
                print(f"\r  {what}: {packages} packages ", end="", flush=True)
            elif show and time.monotonic() - shown > 10:
                shown = time.monotonic()
                print(f"  {what}: {packages} packages", flush=True)
    if moving:
        print("\r" + " " * 60 + "\r", end="", flush=True)
    if process.returncode:
        raise RuntimeError("\n".join([f"{what} failed:", *lines[-15:]]))


def main(arguments: list[str]) -> int:
    """Command line; 1 with the reason when it can't be done."""
    if sys.version_info < FLOOR:
        version = ".".join(map(str, sys.version_info[:3]))
        print(f"Python {version} is too old: 3.10 or newer is needed. Try: make PYTHON=python3.12 ...")
        return 1
    try:
        ensure(ROOT / arguments[0], ROOT / arguments[1], sys.executable)
    except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
        print(exc)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
