"""A loopback HTTP server that takes Sentry envelopes: what the demo shows and what the tests read back.

It forwards nothing.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from otel_sentry.cli.envelope import Item, MalformedEnvelope, decompress, parse_envelope

T = TypeVar("T")


@dataclass(frozen=True)
class Received:
    """One envelope as it arrived, and the status it was answered with."""

    headers: dict[str, Any]
    items: tuple[Item, ...]
    http_headers: dict[str, str]
    path: str
    status: int
    wire_bytes: int
    connection: int
    at: float

    @property
    def trace(self) -> dict[str, str]:
        """The dynamic sampling context in the envelope's header; empty when there is none."""
        return dict(self.headers.get("trace") or {})


@dataclass(frozen=True)
class Answer:
    """How to answer: *delay* seconds late, with *status* and *headers*, or not at all (*hang_up*)."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang_up: bool = False


class Receiver:
    """A Sentry that keeps what it gets. Use as a context manager, or `start` and `stop`.

    *on_envelope* is called on a server thread with each envelope that is accepted. *port* 0 takes a free one.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        key: str = "e" * 32,
        project: str = "1",
        on_envelope: Callable[[Received], None] | None = None,
    ) -> None:
        self.key = key
        self.project = project
        self._on_envelope = on_envelope
        self._changed = threading.Condition()
        self._attempts: list[Received] = []
        self._faults: list[str] = []
        self._answers: list[Answer] = []
        self._always = Answer()
        self._server = _Server(("127.0.0.1", port), self)
        self._thread: threading.Thread | None = None

    def start(self) -> Receiver:
        """Begin to take requests."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and every open connection."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join(5.0)
            self._thread = None
        self._server.server_close()
        self._server.hang_up_all()

    def __enter__(self) -> Receiver:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def dsn(self) -> str:
        return f"http://{self.key}@127.0.0.1:{self.port}/{self.project}"

    @property
    def attempts(self) -> list[Received]:
        """Every well-formed envelope, also those that were answered with an error."""
        with self._changed:
            return list(self._attempts)

    @property
    def envelopes(self) -> list[Received]:
        """The envelopes that were accepted, oldest first."""
        return [one for one in self.attempts if 200 <= one.status < 300]

    @property
    def faults(self) -> list[str]:
        """What was wrong with requests that were no envelope, or had the wrong key or path."""
        with self._changed:
            return list(self._faults)

    @property
    def connections(self) -> int:
        """How many TCP connections were opened so far."""
        return self._server.opened

    def items(self, type: str) -> list[Any]:
        """The payloads of all accepted items of *type*, decoded from JSON."""
        return [item.json for one in self.envelopes for item in one.items if item.type == type]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.items("event")

    @property
    def transactions(self) -> list[dict[str, Any]]:
        return self.items("transaction")

    def clear(self) -> None:
        """Forget what was received; scripted answers stay."""
        with self._changed:
            self._attempts.clear()
            self._faults.clear()

    def answer(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        delay: float = 0.0,
        hang_up: bool = False,
        times: int | None = 1,
    ) -> None:
        """Script the next *times* answers (they queue up), or all later ones with *times* None."""
        one = Answer(status, dict(headers or {}), delay, hang_up)
        with self._changed:
            if times is None:
                self._always = one
            else:
                self._answers.extend([one] * times)

    def wait_for(self, predicate: Callable[[Receiver], T], timeout: float = 10.0) -> T:
        """Return *predicate*'s first true value. Raises TimeoutError, with what did arrive."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                seen = len(self._attempts)
            value = predicate(self)
            if value:
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"not within {timeout:g} s; {self.summary()}")
            with self._changed:
                if len(self._attempts) == seen:
                    self._changed.wait(min(left, 0.25))

    def summary(self) -> str:
        """One line: which items arrived, and what was wrong."""
        counts: dict[str, int] = {}
        for one in self.attempts:
            for item in one.items:
                name = item.type if one.status < 300 else f"{item.type} ({one.status})"
                counts[name] = counts.get(name, 0) + 1
        text = ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "nothing"
        return f"received {text}" + (f"; faults: {self.faults}" if self.faults else "")

    def _next_answer(self) -> Answer:
        with self._changed:
            return self._answers.pop(0) if self._answers else self._always

    def _take(self, received: Received) -> None:
        with self._changed:
            self._attempts.append(received)
            self._changed.notify_all()
        if self._on_envelope is not None and received.status < 300:
            self._on_envelope(received)

    def _fault(self, text: str) -> None:
        with self._changed:
            self._faults.append(text)
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: Receiver) -> None:
        self.owner = owner
        self.opened = 0
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.opened += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; the default prints a traceback."""

    def hang_up_all(self) -> None:
        for one in list(self._open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = self.server.opened

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the demo's screen is not ours."""

    def do_POST(self) -> None:
        owner = self.server.owner
        body = self._body()
        try:
            self._check_address()
            plain = decompress(body, self.headers.get("Content-Encoding", ""))
            header, items = parse_envelope(plain)
        except MalformedEnvelope as exc:
            owner._fault(str(exc))
            self._reply(Answer(400, {"X-Sentry-Error": str(exc).replace("\n", " ")[:200]}))
            return
        answer = owner._next_answer()
        # Taken before the answer goes out: who has seen the answer will find the envelope here.
        if not answer.delay and not answer.hang_up:
            owner._take(self._received(header, items, answer.status, len(body)))
            self._reply(answer)
            return
        time.sleep(answer.delay)
        owner._take(self._received(header, items, 0 if answer.hang_up else answer.status, len(body)))
        if answer.hang_up:
            self.close_connection = True
        else:
            self._reply(answer)

    def _received(self, header: dict[str, Any], items: tuple[Item, ...], status: int, wire_bytes: int) -> Received:
        names = {name.lower(): value for name, value in self.headers.items()}
        return Received(header, items, names, self.path, status, wire_bytes, self.number, time.time())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _check_address(self) -> None:
        owner = self.server.owner
        parts = urlsplit(self.path)
        if parts.path != f"/api/{owner.project}/envelope/":
            raise MalformedEnvelope(f"path {parts.path}")
        in_query = parse_qs(parts.query).get("sentry_key", [""])[0]
        auth = self.headers.get("X-Sentry-Auth", "")
        if owner.key != in_query and f"sentry_key={owner.key}" not in auth:
            raise MalformedEnvelope("no or a wrong sentry_key")

    def _reply(self, answer: Answer) -> None:
        body = b"{}"
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
