"""Acceptance by Sentry's JavaScript packages, which know span v2; Relay's library does not.

They are installed once by npm, under `.cache`; where node or npm is missing the test is skipped with the reason.
"""

from __future__ import annotations

import functools
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable

import pytest

PACKAGES = ("@sentry/core@11.12.0", "@sentry/conventions@0.33.0")
_HOME = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "sentry-js"
_CHECK = pathlib.Path(__file__).with_name("sentry_js_check.mjs")


@functools.lru_cache(maxsize=1)
def _unavailable() -> str:
    """Install the packages; the reason why they are not there, or an empty text."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if all((_HOME / "node_modules" / name.rpartition("@")[0] / "package.json").exists() for name in PACKAGES):
        return ""
    _HOME.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(_HOME), *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "npm install took longer than 120 s"
    return "" if done.returncode == 0 else f"npm install failed: {done.stderr.strip().splitlines()[-1:]}"


def findings(envelopes: Iterable[bytes]) -> list[str]:
    """What is wrong with *envelopes*, one line each. Skips the test where the packages can't be had."""
    reason = _unavailable()
    if reason:
        pytest.skip(f"Sentry's JavaScript packages: {reason}")
    with tempfile.TemporaryDirectory(prefix="otel-sentry-js-") as folder:
        files = []
        for number, body in enumerate(envelopes):
            files.append(pathlib.Path(folder, f"{number}.envelope"))
            files[-1].write_bytes(body)
        done = subprocess.run(
            ["node", str(_CHECK), str(_HOME), *map(str, files)], capture_output=True, text=True, timeout=60, check=False
        )
    lines = done.stdout.splitlines()
    if done.returncode != 0 and not lines:
        lines = [f"node: {done.stderr[-2000:]}"]
    return lines


def assert_js_ok(envelopes: Iterable[bytes]) -> None:
    """Fail with the findings unless Sentry's JavaScript packages take the *envelopes* as they are."""
    found = findings(envelopes)
    assert not found, "\n".join(sorted(set(found)))
