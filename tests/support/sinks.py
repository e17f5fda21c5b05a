"""What alert sinks talk to: an HTTP server that answers by script, a small SMTP server, and the services' schemas."""

from __future__ import annotations

import base64
import json
import pathlib
import shutil
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest


class Got(NamedTuple):
    """One request."""

    path: str
    headers: Mapping[str, str]
    document: Any
    at: float


class Http:
    """Keeps what is posted; answers from `answers` (status, headers), then 200."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.faults: list[str] = []
        self.check: Any = None
        self.url = ""


@contextmanager
def http_server(check: Any = None) -> Iterator[Http]:
    """*check* is the service's schema: an AssertionError in it is answered 400, as the service would."""
    state = Http()
    state.check = check

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            document = json.loads(body)
            state.got.append(Got(self.path, dict(self.headers), document, time.monotonic()))
            status, headers = state.answers.pop(0) if state.answers else (200, {})
            try:
                if state.check is not None:
                    state.check(document, body)
            except (AssertionError, KeyError, TypeError, ValueError) as exc:
                state.faults.append(repr(exc))
                status = 400
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "2"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
    assert not state.faults, state.faults


def slack_schema(document: dict[str, Any], body: bytes) -> None:
    """Slack's incoming webhooks and Block Kit: what it would answer ``invalid_blocks`` or ``invalid_payload`` to."""
    assert (
        set(document) <= {"text", "blocks"}
        and isinstance(document["text"], str)
        and 0 < len(document["text"]) <= 40_000
    )
    assert 1 <= len(document["blocks"]) <= 50
    for block in document["blocks"]:
        if block["type"] == "header":
            assert set(block) == {"type", "text"}
            _slack_text(block["text"], "plain_text", 150)
        elif block["type"] == "section":
            assert set(block) == {"type", "text"} or set(block) == {"type", "fields"}
            if "text" in block:
                _slack_text(block["text"], "mrkdwn", 3000)
            else:
                assert 1 <= len(block["fields"]) <= 10
                for one in block["fields"]:
                    _slack_text(one, "mrkdwn", 2000)
        elif block["type"] == "actions":
            assert set(block) == {"type", "elements"} and 1 <= len(block["elements"]) <= 25
            for element in block["elements"]:
                assert set(element) == {"type", "text", "url"} and element["type"] == "button"
                _slack_text(element["text"], "plain_text", 75)
                assert urlsplit(element["url"]).scheme == "https" and len(element["url"]) <= 3000
        else:
            raise AssertionError(f"block type {block['type']}")


def _slack_text(text: dict[str, Any], kind: str, limit: int) -> None:
    assert set(text) == {"type", "text"} and text["type"] == kind
    assert isinstance(text["text"], str) and 1 <= len(text["text"]) <= limit, len(text["text"])
    if kind == "mrkdwn":
        assert "<" not in text["text"] and ">" not in text["text"]


def pagerduty_schema(document: dict[str, Any], body: bytes) -> None:
    """PagerDuty's Events API v2."""
    assert len(body) < 512_000
    allowed = {"routing_key", "event_action", "dedup_key", "payload", "images", "links", "client", "client_url"}
    assert set(document) <= allowed
    assert isinstance(document["routing_key"], str) and len(document["routing_key"]) == 32
    assert document["event_action"] in ("trigger", "acknowledge", "resolve")
    assert isinstance(document["dedup_key"], str) and 1 <= len(document["dedup_key"]) <= 255
    if document["event_action"] != "trigger":
        return
    payload = document["payload"]
    optional = {"timestamp", "component", "group", "class", "custom_details"}
    assert {"summary", "source", "severity"} <= set(payload) <= {"summary", "source", "severity"} | optional
    assert 1 <= len(payload["summary"]) <= 1024 and 1 <= len(payload["source"])
    assert payload["severity"] in ("critical", "error", "warning", "info")
    assert datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
    assert all(isinstance(payload[key], str) for key in ("component", "group", "class"))
    assert isinstance(payload["custom_details"], dict)
    for link in document.get("links", ()):
        assert set(link) == {"href", "text"}


class Smtp:
    """Keeps the letters it gets. *refuse*: the code for each command of that name; *auth*: the login that counts."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.letters: list[tuple[str, list[str], EmailMessage, bool]] = []
        self.logins: list[tuple[str, bool]] = []
        self.refuse: dict[str, list[int]] = {}
        self.port = 0


@contextmanager
def smtp_server(tls: ssl.SSLContext | None = None) -> Iterator[Smtp]:
    """RFC 5321 as far as a client needs it, STARTTLS (RFC 3207) when *tls* is given, AUTH PLAIN (RFC 4954)."""
    state = Smtp(tls)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.secure = False
            self.file = self.request.makefile("rb")
            self.sender, self.to = "", []
            self.say("220 test ESMTP")
            while line := self.file.readline():
                if not self.command(line.decode("ascii").rstrip("\r\n")):
                    return

        def say(self, text: str) -> None:
            self.request.sendall(text.encode("ascii") + b"\r\n")

        def command(self, line: str) -> bool:
            verb, _, rest = line.partition(" ")
            codes = state.refuse.get(verb.upper())
            if codes:
                self.say(f"{codes.pop(0)} no, bob@example.com")
            else:
                getattr(self, f"do_{verb.lower()}")(rest)
            return verb.upper() != "QUIT"

        def do_ehlo(self, rest: str) -> None:
            offers = ["test"] + (["STARTTLS"] if state.tls and not self.secure else ["AUTH PLAIN"])
            for offer in offers[:-1]:
                self.say(f"250-{offer}")
            self.say(f"250 {offers[-1]}")

        def do_starttls(self, rest: str) -> None:
            self.say("220 go ahead")
            self.request = state.tls.wrap_socket(self.request, server_side=True)  # type: ignore[union-attr]
            self.file, self.secure = self.request.makefile("rb"), True

        def do_auth(self, rest: str) -> None:
            state.logins.append((base64.b64decode(rest.split()[1]).decode(), self.secure))
            self.say("235 welcome")

        def do_mail(self, rest: str) -> None:
            self.sender = rest
            self.say("250 ok")

        def do_rcpt(self, rest: str) -> None:
            self.to.append(rest.partition("<")[2].partition(">")[0])
            self.say("250 ok")

        def do_data(self, rest: str) -> None:
            self.say("354 go on")
            lines = []
            while (line := self.file.readline()) not in (b".\r\n", b""):
                lines.append(line[1:] if line.startswith(b"..") else line)
            letter = message_from_bytes(b"".join(lines), policy=policy.default)
            assert isinstance(letter, EmailMessage)
            state.letters.append((self.sender, list(self.to), letter, self.secure))
            self.say("250 queued")

        def do_rset(self, rest: str) -> None:
            self.say("250 ok")

        def do_quit(self, rest: str) -> None:
            self.say("221 bye")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that does not trust the certificate hangs up: no defect of this server's."""

    server = Server(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def certificate(folder: pathlib.Path) -> tuple[pathlib.Path, ssl.SSLContext]:
    """A self-signed certificate for 127.0.0.1 (the path, to trust it by), and a server's context with it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not there")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context
