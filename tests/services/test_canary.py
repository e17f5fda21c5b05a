"""Secrets in every place a secret can be: none is in any byte that leaves for any backend, nor in what we write."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import pathlib
import random
import re
import string
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, quote_plus

import psycopg
import pytest

from otel_sentry.cli.envelope import decompress
from otel_sentry.demo.servers import free_port
from tests.corpus import formats
from tests.support.studio import BIN, LAUNCHER

pytestmark = [pytest.mark.services, pytest.mark.once]
APP = pathlib.Path(__file__).parent.parent / "apps" / "canary"

#: Here the words around say nothing, so that the secret must be one by its form.
BY_FORM: dict[str, str] = {
    "exception cause": "github ghp", "cut in half": "slack bot",
    "cut in a step": "github ghp", "cut in a label": "stripe live", "cut by a limit": "jwt",
    "local card": "card", "exception card": "card",
    "span name": "gitlab pat", "span event name": "sendgrid", "log message": "stripe live", "not found": "npm",
    "business jwt": "jwt", "business event iban": "iban", "celery argument": "openai project", "funnel user": "mail",
    "user e-mail": "mail", "sdk user e-mail": "mail", "path": "django reset",
}  # fmt: skip
#: Personal, not secret: with `SENTRY_SEND_DEFAULT_PII` they may leave.
PERSONAL = {"user e-mail", "sdk user e-mail", "funnel user", "address"}
BY_PLACE = """
request authorization, request api key, request auth token, request session cookie, request csrf cookie, request odd
cookie, request query token, request query key, request nested query, request referer, request referer user info,
request form password, request json, request json nested, request baggage, local by name, local header, local api key,
local nested, local user info, local repr, local option, exception context, exception text, exception note, link
attribute, span attribute by name, span attribute user info, span attribute list, span sql literal, span url key, span
event attribute, span status, baggage, outgoing query, outgoing header, outgoing user info, span() attribute,
set-cookie, sql literal, sql parameter, sql comment, sql detail, sql invalid input, sql error line, redis key, redis
argument, redis hash, redis auth, redis pipeline, cache key, cache value, log argument, log dictionary, log extra, log
extra text, log error quoted, log json, breadcrumb, breadcrumb data, sdk tag, sdk context, sdk message, user field,
business context, business detail, business event, journey start, journey step, journey text, journey end, feature
data, kpi data, alert message, alert context, custom context, custom tag, celery keyword, celery retry, celery local,
celery exception, setting SECRET_KEY, database password, webhook address, otlp header, command line, users own name,
users own value
"""


def _secrets(seed: str) -> dict[str, str]:
    rng = random.Random(seed)
    found = {}
    for name in [*BY_FORM, "address", *(part.strip() for part in BY_PLACE.replace("\n", " ").split(","))]:
        form = BY_FORM.get(name, "")
        word = "".join(rng.choice(string.ascii_letters) for _ in range(13)) + str(rng.randrange(1000, 9999))
        if name == "address":
            found[name] = f"203.0.113.{rng.randrange(100, 250)}"
        elif form == "mail":
            found[name] = f"{word.lower()}@example.com"
        elif form == "django reset":
            found[name] = f"c8q2vd-{formats.some(rng, formats.HEX, 32)}"
        elif form in ("card", "iban"):
            found[name] = getattr(formats, form)(rng)
        else:
            found[name] = formats.TOKENS[form](rng) if form else word
    found["users own value"] = f"ACME-{rng.randrange(10**7, 10**8)}"
    return found


class Backends:
    """Sentry, OTLP, a webhook and the site that the app calls, on one port: keeps every request, decoded."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                encoding = self.headers.get("Content-Encoding", "")
                body = gzip.decompress(raw) if encoding == "gzip" else decompress(raw, encoding) if encoding else raw
                owner.got.append((self.path, str(self.headers), body))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def to(self, kind: str) -> list[tuple[str, str, bytes]]:
        return [one for one in list(self.got) if kind in one[0]]

    def all_have(self, *texts: bytes) -> bool:
        sent = b"\n".join(body for _, _, body in list(self.got))
        return all(text in sent for text in texts)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _forms(secret: str) -> list[bytes]:
    """The secret, both its halves, and how they look in addresses and in base64."""
    parts = [secret]
    if len(secret) >= 16:
        parts += [secret[:12], secret[-12:]]
    found = {part.encode() for part in parts}
    for part in parts:
        found |= {quote(part).encode(), quote_plus(part).encode()}
    for shift in range(3):  # base64 of a text with it inside, wherever it begins
        encoded = base64.b64encode(b"\0" * shift + secret.encode()).rstrip(b"=")
        found.add(encoded[4 if shift else 0 : -2])
    return sorted(found)


@contextmanager
def careless(
    secrets: dict[str, str], postgres_url: str, valkey_url: str, folder: pathlib.Path, **more: str
) -> Iterator[tuple[Backends, Callable[..., int], Callable[[], str]]]:
    """The site and its worker under the launcher: what the backends got, a way to ask it, and what was written."""
    database = f"canary_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[arg-type]
    backends = Backends()
    here, port = f"http://127.0.0.1:{backends.port}", free_port()
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "SENTRY_"))},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(APP), "DJANGO_SETTINGS_MODULE": "conf",
        "CANARIES": json.dumps(secrets), "CANARY_DATABASE": re.sub(r"/[^/]*$", f"/{database}", postgres_url),
        "CANARY_REDIS": re.sub(r"/\d+$", "/14", valkey_url), "CANARY_ELSEWHERE": f"{here}/elsewhere",
        "SENTRY_DSN": f"http://{'e' * 32}@127.0.0.1:{backends.port}/1", "SENTRY_TRACES_SAMPLE_RATE": "1",
        "SENTRY_PROFILES_SAMPLE_RATE": "1", "SENTRY_DEBUG": "1",
        "OTEL_SENTRY_LOGS": "1", "OTEL_SENTRY_LOGS_LEVEL": "debug",
        "OTEL_TRACES_EXPORTER": "otel_sentry,otlp", "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": here, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={secrets['otlp header']}", "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "2000",
        "OTEL_SENTRY_METRIC_LABELS": "note",
        "OTEL_SENTRY_ALERT_SINKS": "webhook",
        "OTEL_SENTRY_ALERT_WEBHOOK_URL": f"{here}/webhook/{secrets['webhook address']}",
        "OTEL_SENTRY_SCRUB_KEYS": "customer_ref", "OTEL_SENTRY_SCRUB_VALUES": r"ACME-\d{8}", **more,
    }  # fmt: skip
    logs = [folder / "web.log", folder / "worker.log"]
    commands = [
        ["gunicorn", "app:application", "--bind", f"127.0.0.1:{port}", "--timeout", "60",
         "--env", f"DB_PASSWORD={secrets['command line']}"],
        ["celery", "-A", "app", "worker", "-c", "1", "--without-mingle", "--without-gossip"],
    ]  # fmt: skip
    processes = []
    for command, log in zip(commands, logs, strict=True):
        with log.open("wb") as out:
            processes.append(subprocess.Popen([LAUNCHER, *command], env=env, cwd=folder, stdout=out, stderr=out))

    def ask(method: str, path: str, body: str | None = None, **headers: str) -> int:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        status = client.getresponse().status
        client.close()
        return status

    def written() -> str:
        return "\n".join(log.read_text(errors="replace") for log in logs)

    try:
        _eventually(lambda: re.search("Listening at", logs[0].read_text()), written)
        yield backends, ask, written
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
        backends.stop()


def _eventually(look: Callable[[], Any], explain: Callable[[], str], timeout: float = 40.0) -> None:
    deadline = time.monotonic() + timeout
    while not look():
        assert time.monotonic() < deadline, explain()[-6000:]
        time.sleep(0.05)


def _be_careless(ask: Callable[..., int], secrets: dict[str, str]) -> None:
    """Requests with a secret in every part, to every careless view."""
    s = secrets
    parts = {
        "Authorization": f"Bearer {s['request authorization']}", "X_Api_Key": s["request api key"],
        "X_Auth_Token": s["request auth token"], "X_Forwarded_For": s["address"],
        "Cookie": f"sessionid={s['request session cookie']}; csrftoken={s['request csrf cookie']}; "
                  f"a_token={s['request odd cookie']}",
        "Referer": f"https://u:{s['request referer user info']}@h.example/?access_token={s['request referer']}",
        "baggage": f"session_token={s['request baggage']}",
        "X_Customer_Ref": s["users own name"], "X_Note": f"see {s['users own value']}",
    }  # fmt: skip
    query = (
        f"?token={s['request query token']}&key={s['request query key']}"
        f"&next=https%3A%2F%2Fh.example%2F%3Ftoken%3D{s['request nested query']}"
    )
    form = f"username=otto&password={s['request form password']}&note={s['users own value']}"
    document = json.dumps({"api_key": s["request json"], "user": [{"newPassword": s["request json nested"]}]})
    kinds = {"Content_Type": "application/x-www-form-urlencoded"}
    assert ask("POST", f"/boom/{query}", form, **parts, **kinds) == 500
    assert ask("POST", f"/body/{query}", document, **parts, Content_Type="application/json") == 500
    assert ask("GET", f"/reset/MQ/{s['path']}/", **parts) == 500
    assert ask("GET", f"/spans/{query}", **parts) == 200
    assert ask("GET", "/stores/", **parts) == 200
    assert ask("GET", "/logs/", **parts) == 404
    assert ask("GET", "/business/", **parts) == 200


@pytest.mark.parametrize("pii", [False, True])
def test_no_secret_leaves(pii: bool, postgres_url: str, valkey_url: str, tmp_path: pathlib.Path) -> None:
    """More than 60 secrets and personal data: in no byte to Sentry, OTLP or a webhook, nor in our own lines.

    With personal data allowed, still no secret.
    """
    secrets = _secrets(f"canaries {pii}")
    assert len(set(secrets.values())) == len(secrets) >= 60
    more = {"SENTRY_SEND_DEFAULT_PII": "1"} if pii else {}
    with careless(secrets, postgres_url, valkey_url, tmp_path, **more) as (backends, ask, written):
        _be_careless(ask, secrets)
        marks = [b"login failed", b"authorization: ", b"canary.work", b"journey.completed", b"work with "]
        _eventually(
            lambda: backends.to("/webhook/") and all(backends.all_have(mark) for mark in marks),
            lambda: f"{[mark for mark in marks if not backends.all_have(mark)]}\n{written()}",
        )
    sent = [one for one in backends.got if not one[0].startswith("/elsewhere")]
    for place in ("/api/1/envelope/", "/v1/traces", "/v1/logs", "/v1/metrics", "/webhook/"):
        assert any(path.startswith(place) for path, *_ in sent), place
    leaks = []
    for name, secret in secrets.items():
        if pii and name in PERSONAL:
            continue
        for form in _forms(secret):
            for path, headers, content in sent:
                at = content.find(form)
                if at >= 0:
                    leaks.append((name, path, content[max(0, at - 160) : at + 60]))
                named = {"otlp header": "/v1/", "webhook address": "/webhook/"}.get(name)
                if (named is None or named not in path) and form.decode("latin-1") in path + headers:
                    leaks.append((name, path, b"headers or path"))
    ours = "\n".join(line for line in written().splitlines() if line.startswith("otel-sentry:"))
    leaks += [(name, "stderr", b"") for name, secret in secrets.items() if secret in ours]
    places = sorted({(name, path) for name, path, _ in leaks})
    assert not leaks, "\n".join(map(repr, [*places, *leaks[:12]]))
    assert b"[Filtered]" in b"".join(content for _, _, content in sent)
