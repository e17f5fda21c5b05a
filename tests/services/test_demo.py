"""`otel-sentry demo`, end to end, and what it leaves behind when it is interrupted: nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from otel_sentry.cli.receiver import Receiver
from otel_sentry.demo import traffic

pytestmark = [pytest.mark.services, pytest.mark.slow]

COMMAND = [sys.executable, "-m", "otel_sentry", "demo"]
#: Issue 3: the first trace is on the screen within a minute.
FIRST_TRACE_S = 60.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """TMPDIR of the demo. Not tmp_path: its parents are closed to the account that Postgres runs as."""
    with tempfile.TemporaryDirectory(prefix="demo-test-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


def start(folder: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """The demo, with its output in a pipe."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONIOENCODING": "utf-8", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def read_until(demo: subprocess.Popen[str], piece: str) -> str:
    """What it writes up to the line with *piece*."""
    assert demo.stdout is not None
    read = ""
    for line in demo.stdout:
        read += line
        if piece in line:
            return read
    raise AssertionError(f"it ended without {piece!r}:\n{read}")


def test_demo_shows_everything(folder: Path) -> None:
    """Traces, issues, alerts and the business are on the screen, the first within a minute; nothing is left."""
    started = time.monotonic()
    demo = start(folder)
    assert demo.stdout is not None
    text = read_until(demo, "http.server")
    assert time.monotonic() - started < FIRST_TRACE_S
    text += demo.stdout.read()
    assert demo.wait(60) == 0, text
    assert "missing" not in text
    assert "\x1b" not in text
    for number, step in enumerate(traffic.STEPS, 1):
        assert f"{number}. {step.title}" in text
    assert re.search(r"POST /posts/  http\.server  ok .*\[web\]", text)
    assert re.search(r"   └─ posts\.tasks\.render_post  queue\.process  ok .*\[worker\]", text)
    assert text.count("\n✗ ") == 3 and text.count("\n‼ alert ") == 2
    traces = sum(step.times for step in traffic.STEPS)
    assert f"All of it arrived: {traces} traces, 3 issues, 2 alerts, and the metrics." in text
    assert_business(text)
    assert list(folder.iterdir()) == []


def assert_business(text: str) -> None:
    """The journey over two processes, the funnel with what it loses, features, operations, incidents and alerts."""
    assert "‼ alert brute_force_account  critical: Brute force against one account: 10 failed logins" in text
    assert "‼ alert payment_failed  critical: the card provider refused the charge" in text
    assert "tok_" not in text and "guess" not in text
    business = text[text.index("What came of it for the business") :]
    for pattern in (
        r"journey    user_onboarding  completed\n"
        r"├─ signed_up   \+0\.0 s  POST /accounts/signup/  \[web\]  trace \w{8}…\n"
        r"├─ first_post  \+\d+\.\d s  POST /posts/  \[web\]  trace (\w{8})…\n"
        r"└─ published   \+\d+\.\d s  posts\.tasks\.render_post  \[worker\]  trace \1…\n",
        r"funnel     user_onboarding  users, today\n├─ signed_up   1\n├─ first_post  1\n"
        r"└─ upgraded    0  100% drop-off\n",
        r"feature    post_creator  video_created 1, image_created 1\n",
        r"operation  registration  ok 1\n",
        r"operation  payment  error 1\n",
        r"logins     failed  10\n",
        r"incident   brute_force_account  1\n",
    ):
        assert re.search(pattern, business), business


@pytest.mark.once
def test_demo_sends_to_a_dsn_of_yours(folder: Path, receiver: Receiver) -> None:
    """With SENTRY_DSN set everything goes there; here it says only where to look, and never the key."""
    demo = start(folder, SENTRY_DSN=receiver.dsn)
    text, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, text
    assert "Sent to 127.0.0.1, project 1" in text
    assert "http.server" not in text
    assert receiver.key not in text
    names = {one["transaction"] for one in receiver.transactions}
    assert {name for step in traffic.STEPS for name in step.roots} <= names
    assert {one["environment"] for one in receiver.transactions} == {"development"}
    assert not receiver.faults


@pytest.mark.once
@pytest.mark.parametrize(
    ("number", "piece", "status"),
    [
        (signal.SIGINT, "✓ Postgres and Valkey", 130),
        (signal.SIGINT, "2. ", 130),
        (signal.SIGTERM, "1. ", 143),
        (signal.SIGKILL, "2. ", -signal.SIGKILL),
    ],
)
def test_interrupted_demo_leaves_no_process(folder: Path, number: int, piece: str, status: int) -> None:
    """Ctrl-C, SIGTERM and even SIGKILL, while it starts or runs: every process ends, and soon."""
    demo = start(folder)
    read_until(demo, piece)
    children = psutil.Process(demo.pid).children(recursive=True)
    assert len(children) >= 4
    demo.send_signal(number)
    demo.communicate(timeout=30)
    assert demo.returncode == status
    _, alive = psutil.wait_procs(children, timeout=0.1 if status > 0 else 20)
    alive = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert alive == []
    if status > 0:
        assert list(folder.iterdir()) == []
