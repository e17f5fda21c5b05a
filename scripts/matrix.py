"""Run the tests on several Pythons and requirement sets, and print one line for each cell.

usage: python3 scripts/matrix.py [PYTHON:SET ...] [-- PYTEST ARGUMENTS], e.g. 3.10:oldest 3.13:newest -- -x

Interpreters are found by name (python3.12) or below pyenv's folder. Where one is missing this says so, and
its sets run on this interpreter instead: each set is tested anywhere.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import env

# The ends of each range, and the pre-release in the middle; the full cross product would say little more and take
# twice as long. `make test` adds the newest set on whatever `python3` is; other cells: `make test-matrix CELLS=...`.
CELLS = ("3.10:oldest", "3.12:sentry3", "3.13:newest")
OPTIONAL = ("3.14:newest",)


class Cell(NamedTuple):
    """One environment: a Python version, the requirement set, and the interpreter that is used."""

    version: str
    requirements: str
    python: str

    @property
    def name(self) -> str:
        return f"{self.version}-{self.requirements}"


def find_python(version: str) -> str | None:
    """The path of a working interpreter of *version* ("3.12"), or None."""
    candidates = [shutil.which(f"python{version}"), sys.executable]
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv") / "versions"
    candidates += sorted((str(path) for path in pyenv.glob(f"{version}.*/bin/python3")), reverse=True)
    for candidate in candidates:
        # A shim of pyenv has the right name also where it can't run.
        if candidate and _version_of(candidate) == version:
            return candidate
    return None


def _version_of(python: str) -> str | None:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def choose(wanted: Iterable[str], optional: Iterable[str] = ()) -> list[Cell]:
    """The cells that can run here; names the interpreters that are missing."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    cells: dict[str, Cell] = {}
    for text in wanted:
        version, _, requirements = text.partition(":")
        python = find_python(version)
        if python is None:
            print(f"{version} is not installed: {requirements} runs on {here} instead", flush=True)
        cell = Cell(version, requirements, python) if python else Cell(here, requirements, sys.executable)
        cells[cell.name] = cell
    for text in optional:
        version, _, requirements = text.partition(":")
        if python := find_python(version):
            cells[f"{version}-{requirements}"] = Cell(version, requirements, python)
    return list(cells.values())


def set_up(cell: Cell) -> str | None:
    """Make the cell's environment; returns what went wrong."""
    try:
        env.ensure(_folder(cell), env.ROOT / "requirements" / f"{cell.requirements}.txt", cell.python, show=False)
    except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
        return str(exc)
    print(f"  .venvs/{cell.name} is ready", flush=True)
    return None


def _folder(cell: Cell) -> pathlib.Path:
    return env.ROOT / ".venvs" / cell.name


def test(cell: Cell, arguments: list[str]) -> tuple[bool, str]:
    """Run pytest in the cell; returns whether it passed, and its closing line. All output goes to a log.

    What failed is run once more, alone: the tests start dozens of real servers, and a shared machine may be slow to
    answer. The closing line says so.
    """
    code, closing = _pytest(cell, [*arguments])
    if code == 1:
        code, again = _pytest(cell, ["--last-failed", *arguments])
        closing += f"; those that failed, once more: {again}"
    return code == 0, closing


def _pytest(cell: Cell, arguments: list[str]) -> tuple[int, str]:
    log = env.ROOT / ".cache" / "matrix" / f"{cell.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    cache = f"cache_dir={env.ROOT / '.cache' / 'matrix' / cell.name}"
    command = [env.python_of(_folder(cell)), "-m", "pytest", "-q", "-m", "not once", "-o", cache, *arguments]
    with log.open("w") as out:
        code = subprocess.run(command, cwd=env.ROOT, stdout=out, stderr=out, check=False).returncode
    lines = log.read_text(errors="replace").splitlines()
    closing = next((line for line in reversed(lines) if re.search(r"\b\d+ \w+.* in \d", line)), f"exit {code}")
    if code:
        print("\n".join(lines[-80:]), flush=True)
    return code, closing.strip("= ")


def main(arguments: list[str]) -> int:
    """Command line; 1 when a cell failed."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    wanted, options = arguments[:at], arguments[at + 1 :]
    cells = choose(wanted) if wanted else choose(CELLS, OPTIONAL)
    began = time.monotonic()
    print(f"setting up {len(cells)} environments under .venvs (about a minute each, once)", flush=True)
    summary = []
    # Two at a time, ahead of the tests; the tests one after another, because some of them measure time.
    with ThreadPoolExecutor(2) as pool:
        ready: list[Future[str | None]] = [pool.submit(set_up, cell) for cell in cells]
        for future in ready:
            future.exception()
        for cell, future in zip(cells, ready, strict=True):
            print(f"testing {cell.name} ...", flush=True)
            fault = future.result()
            passed, closing = (False, f"no environment: {fault}") if fault else test(cell, options)
            verdict = "ok  " if passed else "FAIL"
            summary.append((passed, f"{cell.version:<5} {cell.requirements:<8} {verdict} {closing}"))
            print(summary[-1][1], flush=True)
    print(f"\n{len(cells)} cells in {time.monotonic() - began:.0f} s")
    print("\n".join(line for _, line in summary))
    return 0 if summary and all(passed for passed, _ in summary) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
