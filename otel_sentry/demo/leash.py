"""Run a command for as long as standard input stays open: a script that imports nothing of ours.

`otel-sentry demo` starts its processes through it and holds the other end of the pipe. When that end closes
(the demo is done, crashed, or was killed with SIGKILL) the command gets SIGTERM, then its process group does,
and SIGKILL if it is there after `GRACE_S`. Works wherever there are pipes; PR_SET_PDEATHSIG is Linux's own.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

#: Seconds between SIGTERM and SIGKILL: more than a worker's warm shutdown and our flush take.
GRACE_S = 8.0


class _Released(Exception):
    """The other end has closed, or somebody asks us to stop."""


def _release(*_: object) -> None:
    raise _Released


def _hold(child: subprocess.Popen[bytes]) -> None:
    while child.poll() is None:
        readable, _, _ = select.select([0], [], [], 0.1)
        if readable and not os.read(0, 1):
            raise _Released


def _signal_group(group: int, number: int) -> bool:
    """Is there still somebody in *group* to get the signal? (0 only asks.)"""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        return False
    return True


def main(command: list[str]) -> int:
    """Run *command*; its exit status, or 128 and the signal that ended it."""
    signal.signal(signal.SIGTERM, _release)
    # Its own session: Ctrl-C in the terminal is for the demo, which then lets go of us.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _hold(child)
    except _Released:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child.terminate()  # the master first: gunicorn and Celery stop their own workers in order
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        gone = child.poll() is not None
        if gone and not _signal_group(child.pid, signal.SIGTERM):
            break
        time.sleep(0.02 if not gone else 0.1)
    _signal_group(child.pid, signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
