"""Golden Sentry output: run the real instrumentors in one semantic-convention mode, take what volatile out of it."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from otel_sentry.cli.receiver import Receiver

FOLDER = pathlib.Path(__file__).parents[1] / "contract" / "golden"
MODES = ("", "http,database", "http/dup,database/dup")

#: Values that differ from run to run or from release to release: the kind is kept.
_VOLATILE = frozenset(
    {
        "event_id", "messaging.message.id", "messaging.message.conversation_id", "messaging.message.receive.latency",
        "celery.hostname", "celery.reply_to", "otel.scope.version", "user_agent.original", "timestamp",
        "start_timestamp", "thread.id", "client.port", "sent_at", "sentry.event_id", "celery_task_id",
        *(f"performance.{kind}_time_ms" for kind in ("response", "database", "cache", "external", "publish")),
    }
)  # fmt: skip
#: Of the process, not of the spans.
_LEFT_OUT = ("sdk", "contexts.otel", "contexts.runtime", "contexts.os", "contexts.device", "modules", "breadcrumbs")
_IDS = ("trace_id", "span_id", "parent_span_id")


class _Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.send_response({"/ok": 200, "/missing": 404}.get(path, 503))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def _upstream() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Upstream) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def transactions(mode: str, postgres_url: str, valkey_url: str) -> dict[str, list[dict[str, Any]]]:
    """The transactions that a Sentry received, by scenario, in the order in which they began."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS post (id int PRIMARY KEY, title text)")
        connection.execute("INSERT INTO post VALUES (1, 'a') ON CONFLICT DO NOTHING")
    with Receiver() as receiver, _upstream() as upstream:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SENTRY_"))}
        environ |= {"OTEL_SEMCONV_STABILITY_OPT_IN": mode, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, str(FOLDER / "program.py"), receiver.dsn, postgres_url, valkey_url, upstream],
            env=environ, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr)
        windows = json.loads(done.stdout.splitlines()[-1])
        found: dict[str, list[dict[str, Any]]] = {}
        for name, (began, ended) in windows.items():
            found[name] = sorted(
                (one for one in receiver.transactions if began <= one["start_timestamp"] <= ended),
                key=lambda one: one["start_timestamp"],
            )
        return found


def normalised(found: dict[str, list[dict[str, Any]]], *urls: str) -> dict[str, Any]:
    """The same without ids, times, ports and versions; spans in the order in which they began."""
    ports = {port: f"<port {index}>" for index, port in enumerate(_ports(urls))}
    return {name: [_Names(ports).event(one) for one in events] for name, events in found.items()}


def _ports(urls: tuple[str, ...]) -> list[str]:
    return [match.group(1) for url in urls if (match := re.search(r":(\d+)(/|$)", url))]


class _Names:
    """One transaction's ids in the order in which they appear, and the ports by what listens there."""

    def __init__(self, ports: dict[str, str]) -> None:
        self.ids: dict[str, str] = {}
        self.ports = ports

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        event = json.loads(json.dumps(event))
        for path in _LEFT_OUT:
            outer, _, inner = path.partition(".")
            (event.get(outer, {}) if inner else event).pop(inner or outer, None)
        event["spans"] = sorted(event["spans"], key=lambda one: (one["start_timestamp"], one["span_id"]))
        trace = event["contexts"]["trace"]
        for span in (trace, *event["spans"]):
            self.id(span["span_id"])
        result: dict[str, Any] = self.value("", event)
        return result

    def id(self, given: str) -> str:
        return self.ids.setdefault(given, f"<id {len(self.ids) + 1}>")

    def value(self, key: str, value: Any) -> Any:
        if value is not None and key in _IDS:
            return self.ids.get(value, "<elsewhere>") if key != "trace_id" else "<trace>"
        if key in _VOLATILE:
            return f"<{type(value).__name__}>"
        if isinstance(value, dict):
            return {name: self.value(name, item) for name, item in sorted(value.items())}
        if isinstance(value, list):
            return [self.value("", item) for item in value]
        if key.endswith(".port"):
            return self.ports.get(str(value), "<port>")
        if isinstance(value, str):
            value = re.sub(r'"after_ms":[\d.]+', '"after_ms":"<float>"', value)
            return re.sub(r"(?<=127\.0\.0\.1:)(\d{2,5})", lambda match: self.ports.get(match[1], "<port>"), value)
        return value


def names() -> list[str]:
    """The scenarios that are stored."""
    return sorted(path.stem for path in FOLDER.glob("*_*.json"))


def golden(name: str) -> Any:
    """What is stored for one scenario."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def versions() -> dict[str, str]:
    """The versions of what makes the spans: other ones may say other things."""
    packages = ("opentelemetry-instrumentation", "django", "celery", "redis", "psycopg", "httpx", "requests", "urllib3")
    return {name: importlib.metadata.version(name) for name in packages}


def store(found: dict[str, Any]) -> list[str]:
    """Write the scenarios down; returns the names of those that changed."""
    changed = []
    (FOLDER / "versions.json").write_text(json.dumps(versions(), indent=1) + "\n")
    for name, events in found.items():
        path = FOLDER / f"{name}.json"
        text = json.dumps(events, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(name)
    return changed
