"""The test harness itself: the receiver, the servers, Relay and Bugsink."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from typing import Any

import psycopg
import pytest
import redis

from otel_sentry import guard
from otel_sentry.cli.envelope import MalformedEnvelope, parse_envelope
from otel_sentry.cli.receiver import Receiver
from tests.support import servers
from tests.support.bugsink import Bugsink
from tests.support.relay import assert_relay_ok, findings


def envelope(*items: tuple[str, Any], **header: Any) -> bytes:
    lines = [json.dumps(header).encode()]
    for kind, payload in items:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        lines += [json.dumps({"type": kind, "length": len(body)}).encode(), body]
    return b"\n".join(lines) + b"\n"


def post(
    receiver_dsn: str, body: bytes, connection: http.client.HTTPConnection | None = None
) -> tuple[int, dict[str, str]]:
    key, _, rest = receiver_dsn.removeprefix("http://").partition("@")
    host, _, project = rest.partition("/")
    sender = connection or http.client.HTTPConnection(host, timeout=10)
    headers = {"Content-Encoding": "gzip", "X-Sentry-Auth": f"Sentry sentry_version=7, sentry_key={key}"}
    try:
        sender.request("POST", f"/api/{project}/envelope/", gzip.compress(body), headers)
        answer = sender.getresponse()
        answer.read()
        return answer.status, dict(answer.headers)
    finally:
        if connection is None:
            sender.close()


def error_event(**more: Any) -> dict[str, Any]:
    trace = {"trace_id": uuid.uuid4().hex, "span_id": "b" * 16}
    return {
        "event_id": uuid.uuid4().hex,
        "timestamp": time.time(),
        "platform": "python",
        "level": "error",
        "exception": {"values": [{"type": "ValueError", "value": "no such post"}]},
        "contexts": {"trace": trace},
        **more,
    }


def test_receiver_keeps_items_and_headers(receiver: Receiver) -> None:
    """Items of each type come back decoded, with the envelope's sampling context."""
    body = envelope(("event", {"message": "a"}), ("transaction", {"transaction": "t"}), trace={"sample_rand": "0.1"})
    assert post(receiver.dsn, body)[0] == 200
    assert receiver.events == [{"message": "a"}]
    assert receiver.transactions == [{"transaction": "t"}]
    assert receiver.envelopes[0].trace == {"sample_rand": "0.1"}


def test_receiver_waits(receiver: Receiver) -> None:
    """wait_for returns the first true value, and says what arrived when there is none in time."""
    post(receiver.dsn, envelope(("event", {"message": "a"})))
    assert receiver.wait_for(lambda one: one.events)[0]["message"] == "a"
    with pytest.raises(TimeoutError, match="received 1 event"):
        receiver.wait_for(lambda one: one.transactions, timeout=0.05)


def test_receiver_answers_as_scripted(receiver: Receiver) -> None:
    """A scripted answer is given once; an envelope that was refused counts as an attempt only."""
    receiver.answer(429, {"Retry-After": "7"})
    status, headers = post(receiver.dsn, envelope(("event", {})))
    assert (status, headers["Retry-After"]) == (429, "7")
    assert post(receiver.dsn, envelope(("event", {})))[0] == 200
    assert len(receiver.attempts) == 2
    assert len(receiver.envelopes) == 1


def test_receiver_stalls_and_hangs_up(receiver: Receiver) -> None:
    """A server that stalls, then one that closes the connection without an answer."""
    receiver.answer(delay=0.2)
    began = time.monotonic()
    post(receiver.dsn, envelope(("event", {})))
    assert time.monotonic() - began >= 0.2
    receiver.answer(hang_up=True)
    with pytest.raises(http.client.RemoteDisconnected):
        post(receiver.dsn, envelope(("event", {})))


def test_receiver_keeps_connections_open(receiver: Receiver) -> None:
    """Two requests on one connection are counted as one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    for _ in range(2):
        post(receiver.dsn, envelope(("event", {})), connection)
    connection.close()
    assert receiver.connections == 1
    assert len(receiver.envelopes) == 2


def test_receiver_refuses_a_wrong_key(receiver: Receiver) -> None:
    """A request with another key is answered with 400 and noted as a fault."""
    assert post(receiver.dsn.replace("e" * 32, "f" * 32), envelope(("event", {})))[0] == 400
    assert receiver.faults == ["no or a wrong sentry_key"]
    assert not receiver.attempts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]\n",
        b'{}\n{"type":"event","length":9}\n{}\n',
        b'{}\n{"type":"event","length":1}\n{}\n',
        b'{}\n{"length":2}\n{}\n',
        b'{}\n{"type":"event"}\nno json\n',
        b'{}\n{"type":"event","length":true}\n{}\n',
    ],
)
def test_malformed_envelopes_are_refused(body: bytes) -> None:
    """The parser takes nothing that the protocol does not allow."""
    with pytest.raises(MalformedEnvelope):
        parse_envelope(body)


def test_payloads_with_and_without_length() -> None:
    """A length may be left out, a payload may hold newlines, and the last newline may be missing."""
    body = b'{"a":1}\n{"type":"attachment","length":3}\nx\ny\n{"type":"event"}\n{"b":2}'
    header, items = parse_envelope(body)
    assert header == {"a": 1}
    assert [item.payload for item in items] == [b"x\ny", b'{"b":2}']


@pytest.mark.services
def test_postgres_answers(postgres_url: str) -> None:
    """The bundled Postgres takes a query."""
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.services
def test_valkey_answers(valkey_url: str) -> None:
    """The bundled Valkey takes a command."""
    with redis.Redis.from_url(valkey_url) as client:
        assert client.ping()


@pytest.mark.services
def test_a_taken_port_is_said() -> None:
    """A port that another program holds is an error at once, not another program's answer."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(servers.ServerError, match="in use"), servers.valkey(other.getsockname()[1]):
            pass


@pytest.mark.services
def test_servers_die_with_a_killed_parent(tmp_path: pathlib.Path) -> None:
    """SIGKILL for the program that started them leaves neither processes nor data behind."""
    program = """
        import time
        from otel_sentry.demo import servers
        with servers.postgres() as one, servers.valkey() as two:
            print(one.pid, two.pid, flush=True)
            time.sleep(60)
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:  # pytest's are 0700; the servers run as nobody under root
        parent.chmod(0o755)
    parent_process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, env=environ
    )
    assert parent_process.stdout is not None
    pids = [int(pid) for pid in parent_process.stdout.readline().split()]
    parent_process.send_signal(signal.SIGKILL)
    parent_process.wait()
    parent_process.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (any(map(alive, pids)) or list(tmp_path.iterdir())):
        time.sleep(0.05)
    assert not any(map(alive, pids))
    assert not list(tmp_path.iterdir())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_relay_takes_an_error_event() -> None:
    """Sentry's own normaliser has no objection to a plain error event."""
    assert_relay_ok(error_event())


def test_relay_objects() -> None:
    """A field of the wrong kind is found, with its path."""
    assert any("level" in line for line in findings(error_event(level="extremely bad")))


@pytest.mark.allow_swallowed
def test_the_guard_is_watched() -> None:
    """The marker lets a test swallow on purpose; the fixtures have cleared what came before."""
    assert not guard.swallowed
    with guard.block("tests"):
        raise ValueError("on purpose")
    assert guard.swallowed == {"tests": 1}


def test_the_environment_is_clean() -> None:
    """No setting of the machine is seen by a test."""
    assert not [name for name in os.environ if name.startswith(("SENTRY_", "OTEL_"))]


@pytest.mark.services
@pytest.mark.slow
def test_bugsink_shows_an_error(bugsink_server: Bugsink) -> None:
    """An event sent to a real server is an issue there, with the same trace id, and breaks no schema."""
    event = error_event()
    assert post(bugsink_server.dsn, envelope(("event", event), event_id=event["event_id"]))[0] == 200
    stored = next(one for one in bugsink_server.events() if one["event_id"] == event["event_id"])
    assert stored["contexts"]["trace"]["trace_id"] == event["contexts"]["trace"]["trace_id"]
    assert any(items[0].type == "event" for _, items in bugsink_server.envelopes())
    assert not bugsink_server.complaints()
