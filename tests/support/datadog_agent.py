"""Datadog's own test agent, in an environment of its own: takes OTLP over HTTP and gRPC, and shows what it took.

The environment is made once, under `.cache`, as Bugsink's is.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.support.servers import free_port
from tests.support.tools import Tool, Unavailable, end, last_words

VERSION = "1.69.1"
_TOOL = Tool("ddapm-test-agent", "ddapm-test-agent", VERSION)
#: The header that keeps the agent's sessions apart.
SESSION = "x-datadog-test-session-token"


class Agent(NamedTuple):
    """A running agent."""

    http_url: str
    grpc_url: str

    def spans(self, session: str) -> list[dict[str, Any]]:
        """Each span of a session: ids in hex, plain attributes, `resource` and `scope`."""
        return [
            {
                "name": span["name"],
                "kind": span.get("kind"),
                "trace_id": _hex(span["trace_id"]),
                "span_id": _hex(span["span_id"]),
                "parent": _hex(span.get("parent_span_id", "")),
                "attributes": _attributes(span),
                "resource": resource,
                "scope": scope,
            }
            for resource, scope, span in self._each(session, "traces", "spans")
        ]

    def logs(self, session: str) -> list[dict[str, Any]]:
        """Each log record of a session."""
        return [
            {
                "body": record["body"]["string_value"],
                "trace_id": _hex(record.get("trace_id", "")),
                "span_id": _hex(record.get("span_id", "")),
                "attributes": _attributes(record),
                "resource": resource,
                "logger": scope,
            }
            for resource, scope, record in self._each(session, "logs", "log_records")
        ]

    def metrics(self, session: str) -> list[dict[str, Any]]:
        """Each metric of a session, as often as it came."""
        return [{**metric, "resource": resource} for resource, _, metric in self._each(session, "metrics", "metrics")]

    def _each(self, session: str, signal: str, items: str) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
        request = urllib.request.Request(f"{self.http_url}/test/session/{signal}", headers={SESSION: session})
        with _direct.open(request, timeout=10) as answer:
            payloads = json.load(answer)
        for payload in payloads:
            payload = _snake(payload)
            for of_resource in payload.get(f"resource_{_PLURAL[signal]}", ()):
                resource = _attributes(of_resource.get("resource", {}))
                for of_scope in of_resource.get(f"scope_{_PLURAL[signal]}", ()):
                    for item in of_scope.get(items, ()):
                        yield resource, of_scope.get("scope", {}).get("name", ""), item


_PLURAL = {"traces": "spans", "logs": "logs", "metrics": "metrics"}


def _snake(value: Any) -> Any:
    """The agent shows protobuf's JSON, of traces with other names than of logs."""
    if isinstance(value, dict):
        return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): _snake(one) for key, one in value.items()}
    return [_snake(one) for one in value] if isinstance(value, list) else value


def _hex(text: str) -> str:
    if len(text) in (16, 32) and set(text) <= set("0123456789abcdef"):
        return text
    return base64.b64decode(text).hex()


def _attributes(of: Mapping[str, Any]) -> dict[str, Any]:
    return {one["key"]: _value(one.get("value", {})) for one in of.get("attributes", ())}


def _value(value: Mapping[str, Any]) -> Any:
    for kind, one in value.items():
        if kind == "int_value":
            return int(one)
        if kind == "array_value":
            return [_value(item) for item in one.get("values", ())]
        return one
    return ""


# Loopback never goes through a proxy.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def datadog_agent(environ: Mapping[str, str] | None = None) -> Iterator[Agent]:
    """Start one. *environ* is what pip needs to reach an index. Raises Unavailable."""
    _TOOL.install(os.environ if environ is None else environ)
    folder = tempfile.mkdtemp(prefix="otel-sentry-ddapm-")
    ports = [free_port() for _ in range(3)]
    command = [
        _TOOL.bin("ddapm-test-agent"), "--host", "127.0.0.1", "--port", str(ports[0]),
        "--otlp-http-port", str(ports[1]), "--otlp-grpc-port", str(ports[2]),
        "--snapshot-dir", folder, "--disable-llmobs-data-forwarding", "--max-requests", "10000",
    ]  # fmt: skip
    log = pathlib.Path(folder, "log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={"PATH": os.environ.get("PATH", os.defpath), "HOME": folder},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        agent = Agent(f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[2]}")
        _wait_until_ready(process, agent, log)
        yield agent
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[bytes], agent: Agent, log: pathlib.Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            agent.spans("nobody")
            return
        except OSError:
            time.sleep(0.1)
    raise Unavailable(f"no answer: {last_words(log.read_text(errors='replace'))}")
