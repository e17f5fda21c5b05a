"""Security monitoring of a real Django application: every event, and patterns over two processes and one Valkey."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.services.test_django import LAUNCHER, environ
from tests.support.relay import assert_relay_ok
from tests.support.servers import free_port

pytestmark = pytest.mark.services
APP = pathlib.Path(__file__).parent.parent / "apps" / "guarded"
FIELDS = ["time", "event", "user_id", "address", "outcome", "trace_id"]
ADDRESS = "203.0.113.9"

EVENTS = """
User.objects.create_user("zaphod", "zaphod@example.com", "r1ght")
client = Client(raise_request_exception=False, enforce_csrf_checks=True, REMOTE_ADDR="203.0.113.9")
client.post("/login/", {"username": "Zaphod", "password": "wr0ng"})
client.post("/login/", {"username": "zaphod", "password": "r1ght"})
client.get("/change/")
client.get("/denied/")
client.post("/")
client.post("/orders/")
client.get("/orders/", headers={"Authorization": "Token t0k3n"})
client.get("/odd/")
client.get("/", headers={"Host": "evil.example"})
client.get("/nowhere/")
client.get("/logout/")
client.get("/reset/1/")
client.get("/orders/")
user, group = User.objects.get(pk=1), Group.objects.create(name="editors")
user.is_staff = True
user.save()
user.save()
user.groups.add(group)
group.user_set.remove(user)
user.is_staff = False
user.save(update_fields=["is_staff"])
User.objects.create_superuser("root", "root@example.com", "x")
"""

#: Event, user, outcome, in a request?
EXPECTED = [
    ("sign_up", "1", "ok", False),
    ("login", "account", "failed", True),
    ("login", "1", "ok", True),
    ("password_changed", "1", "ok", True),
    ("permission_denied", "1", "denied", True),
    ("csrf_failure", None, "denied", True),
    ("csrf_failure", "1", "denied", True),
    ("token_failure", None, "invalid", True),
    ("suspicious_operation", None, "SuspiciousOperation", True),
    ("suspicious_operation", None, "DisallowedHost", True),
    ("logout", "1", "ok", True),
    ("password_reset", "1", "ok", True),
    ("token_failure", None, "missing", True),
    ("staff_changed", "1", "granted", False),
    ("groups_changed", "1", "added", False),
    ("groups_changed", "1", "removed", False),
    ("staff_changed", "1", "revoked", False),
    ("sign_up", "2", "ok", False),
    ("staff_changed", "2", "granted", False),
    ("superuser_changed", "2", "granted", False),
]


def run(receiver: Receiver, code: str, **more: str) -> str:
    """*code* in the application; what it wrote to stderr."""
    result = subprocess.run(
        [str(LAUNCHER), sys.executable, "guarded.py", code],
        env=environ(receiver, **more), cwd=APP, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0 and "ignored a fault" not in result.stderr, result.stderr
    return result.stderr


def audit_of(text: str) -> list[dict[str, Any]]:
    """Audit lines, each with the fixed fields and no others."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert all(list(line) == FIELDS for line in lines)
    return lines


def wire_text(receiver: Receiver) -> str:
    return repr([[one.headers, one.http_headers, one.path, one.items] for one in receiver.attempts])


def test_every_event(receiver: Receiver) -> None:
    """From Django's signals and answers, with sampling off: a line each, and no name, password or token anywhere."""
    said = run(receiver, EVENTS, SENTRY_TRACES_SAMPLE_RATE="0", OTEL_SENTRY_LOGS="1")
    lines = audit_of(said)
    users = [(line["user_id"] or "").partition(":")[0] or None for line in lines]
    in_request = [line["trace_id"] is not None for line in lines]
    names, outcomes = [line["event"] for line in lines], [line["outcome"] for line in lines]
    assert list(zip(names, users, outcomes, in_request, strict=True)) == EXPECTED
    addresses = {line["address"] for line in lines}
    assert len(addresses) == 2 and None in addresses
    logs = [json.loads(item["body"]) for batch in receiver.items("log") for item in batch["items"]
            if item["body"].startswith("{")]  # fmt: skip
    assert logs == lines
    everything = (said + wire_text(receiver)).lower()
    for secret in ("zaphod", "r1ght", "wr0ng", "t0k3n", "a-new-one", ADDRESS):
        assert secret not in everything, secret


def test_with_pii_and_on_spans(receiver: Receiver) -> None:
    """Names and addresses as they are with PII on; the request's transaction has the event as tags."""
    lines = audit_of(run(receiver, EVENTS, SENTRY_SEND_DEFAULT_PII="1"))
    assert {line["address"] for line in lines} == {ADDRESS, None}
    assert [line["user_id"] for line in lines if line["outcome"] == "failed"] == ["account:zaphod"]
    tagged = {
        (item["transaction"], item["tags"]["security.event"], item["tags"]["security.outcome"])
        for item in receiver.transactions if "security.event" in (item.get("tags") or {})
    }  # fmt: skip
    assert {("GET /denied/", "permission_denied", "denied"), ("POST /login/", "login", "failed")} <= tagged
    assert "r1ght" not in wire_text(receiver) and "wr0ng" not in wire_text(receiver)
    for item in receiver.transactions:
        assert_relay_ok(item)


def test_switched_off(receiver: Receiver) -> None:
    """`OTEL_SENTRY_SECURITY=0`: nothing is noted."""
    assert audit_of(run(receiver, EVENTS, OTEL_SENTRY_SECURITY="0")) == []
    assert "security.event" not in wire_text(receiver) and "auth.login" not in wire_text(receiver)


@contextlib.contextmanager
def serving(receiver: Receiver, folder: pathlib.Path, valkey_url: str) -> Iterator[int]:
    """gunicorn with two processes; an audit file, a proxy that is believed."""
    port = free_port()
    env = environ(
        receiver, GUARDED_AUDIT=str(folder / "audit"), GUARDED_DATABASE=str(folder / "db"), GUARDED_SLEEP="0.05",
        GUARDED_DOWN=str(folder / "down"), OTEL_SENTRY_TRUSTED_PROXIES="1", SENTRY_ENVIRONMENT="production",
        OTEL_SENTRY_STORE=f"{valkey_url.rsplit('/', 1)[0]}/11", OTEL_SENTRY_SHUTDOWN_TIMEOUT="10",
        OTEL_SENTRY_SECURITY_PATTERNS="not_found_burst=20/60,forbidden_burst=10/60",
    )  # fmt: skip
    code = 'User.objects.create_user("zaphod", "zaphod@example.com", "r1ght")'
    subprocess.run([sys.executable, "guarded.py", code], env=env, cwd=APP, check=True, timeout=60)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(LAUNCHER), sys.executable, "-m", "gunicorn", "guarded:application", "--workers", "2",
             "--bind", f"127.0.0.1:{port}"],
            env=env, cwd=APP, start_new_session=True, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                send(port, "/", "192.0.2.1")
                break
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield port
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        assert "ignored a fault" not in (folder / "log").read_text()


def send(port: int, path: str, address: str, **form: str) -> str:
    """A request from *address*; the answer's body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = urllib.parse.urlencode(form) if form else None
    headers = {"X-Forwarded-For": address, "Content-Type": "application/x-www-form-urlencoded"}
    try:
        connection.request("POST" if form else "GET", path, body, headers)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.once
def test_patterns_over_two_processes(receiver: Receiver, valkey_url: str, tmp_path: pathlib.Path) -> None:
    """Ten failed logins, some in each process, are one brute force and one alert; so are bursts of 403 and 404, a login
    from a new address after failures, and a backend that raises. Nobody's name or password is sent or written."""
    pool = concurrent.futures.ThreadPoolExecutor(4)

    def alerts(kind: str) -> list[dict[str, Any]]:
        return [event for event in receiver.events if event.get("fingerprint") == ["business-alert", kind]]

    with serving(receiver, tmp_path, valkey_url) as port, pool:
        assert send(port, "/login/", "192.0.2.7", username="zaphod", password="r1ght") == "welcome"
        tries = [
            pool.submit(send, port, "/login/", f"198.51.100.{number}", username="Zaphod", password="wr0ng")
            for number in range(14)
        ]
        assert len({one.result() for one in tries}) == 2  # "no, says <process>"
        receiver.wait_for(lambda _: alerts("brute_force_account"), 20)
        assert send(port, "/login/", "198.51.100.3", username="zaphod", password="r1ght") == "welcome"
        bursts = [pool.submit(send, port, "/denied/", "203.0.113.1") for _ in range(15)]
        bursts += [pool.submit(send, port, f"/nowhere/{number}/", "203.0.113.2") for number in range(30)]
        concurrent.futures.wait(bursts)
        receiver.wait_for(lambda _: alerts("not_found_burst"), 20)
        (tmp_path / "down").touch()
        send(port, "/login/", "192.0.2.7", username="zaphod", password="r1ght")
    kinds = {
        "brute_force_account": "fatal", "new_address_after_failures": "warning", "forbidden_burst": "warning",
        "not_found_burst": "warning", "authentication_failures": "fatal",
    }  # fmt: skip
    raised = [event["tags"]["alert_type"] for event in receiver.events if "alert_type" in event.get("tags", {})]
    assert sorted(raised) == sorted(kinds)
    for kind, level in kinds.items():
        (event,) = alerts(kind)
        assert event["level"] == level
        assert_relay_ok(event)
    (event,) = alerts("brute_force_account")
    assert event["contexts"]["business_alert"]["count"] == 10
    assert event["tags"]["security.event"] == "login" and event["transaction"] == "POST /login/"
    written = (tmp_path / "audit").read_text()
    lines = audit_of(written)
    assert [line["outcome"] for line in lines if line["event"] == "incident"].count("brute_force_account") == 1
    assert [line["trace_id"] for line in lines if line["outcome"] == "brute_force_account"] == [
        event["contexts"]["trace"]["trace_id"]
    ]
    counted: dict[tuple[str, str], float] = {}
    for batch in receiver.items("trace_metric"):
        for item in batch["items"]:
            for label in {"outcome", "kind"} & set(item["attributes"]):
                key = item["name"], item["attributes"][label]["value"]
                counted[key] = counted.get(key, 0) + item["value"]
    assert {key: counted[key] for key in counted if key[0] == "auth.login"} == {
        ("auth.login", "ok"): 2, ("auth.login", "failed"): 14, ("auth.login", "error"): 1,
    }  # fmt: skip
    assert {key[1] for key in counted if key[0] == "security.incident"} == set(kinds) - {"authentication_failures"}
    everything = (written + (tmp_path / "log").read_text() + wire_text(receiver)).lower()
    for secret in ("r1ght", "wr0ng", "198.51.100", "203.0.113"):
        assert secret not in everything, secret
    # But for the local variables of the application's own frames: a backend has the name in its hands.
    receiver._attempts[:] = [one for one in receiver.attempts if b'"exception"' not in one.items[0].payload]
    assert len(receiver.events) == len(kinds) and "zaphod" not in wire_text(receiver).lower()
    assert "zaphod" not in (written + (tmp_path / "log").read_text()).lower()
