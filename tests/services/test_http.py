"""Outgoing HTTP under the launcher, against a real server on loopback: requests, urllib3, httpx, aiohttp."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from otel_sentry.cli.receiver import Receiver

pytestmark = pytest.mark.services
LAUNCHER = str(pathlib.Path(sys.executable).parent / "opentelemetry-instrument")
TRACE_HEADERS = {"sentry-trace", "traceparent", "tracestate", "baggage"}
CLIENTS = ["requests", "urllib3", "httpx", "httpx async", "aiohttp"]
PROGRAM = r"""
import asyncio, sys
base, nobody = sys.argv[1:3]
import aiohttp, httpx, requests, urllib3, otel_sentry
PATHS = ["/target?token=secret&page=1", "/404", "/500", "/slow"]
URLS = [base.replace("//", "//user:secret@") + PATHS[0]] + [base + path for path in PATHS[1:]] + [nobody]

def each(get):
    for url in URLS:
        try:
            get(url)
        except Exception as exc:
            print(type(exc).__name__)

async def each_async(get):
    for url in URLS:
        try:
            await get(url)
        except Exception as exc:
            print(type(exc).__name__)

with otel_sentry.span("requests"), requests.Session() as one:
    each(lambda url: one.get(url, timeout=0.5))
with otel_sentry.span("urllib3"), urllib3.PoolManager(retries=False, timeout=0.5) as pool:
    each(lambda url: pool.request("GET", url.replace("user:secret@", "")))
with otel_sentry.span("httpx"), httpx.Client(timeout=0.5) as two:
    each(two.get)

async def run():
    with otel_sentry.span("httpx async"):
        async with httpx.AsyncClient(timeout=0.5) as three:
            await each_async(three.get)
    with otel_sentry.span("aiohttp"):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5)) as four:
            async def get(url):
                async with four.get(url) as response:
                    await response.read()
            await each_async(get)

asyncio.run(run())
"""


class Server(NamedTuple):
    url: str
    requests: list[tuple[str, set[str]]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Answers by path, and takes OTLP; notes path and trace headers of each request."""
    seen: list[tuple[str, set[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.path, {name.lower() for name in self.headers} & TRACE_HEADERS))
            if self.path == "/slow":
                time.sleep(0.8)
            status = int(self.path[1:]) if self.path[1:].isdigit() else 200
            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:  # whoever asked for /slow has gone
                pass

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        one.daemon_threads = True
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield Server(f"http://127.0.0.1:{one.server_port}", seen)
        one.shutdown()


@pytest.fixture(scope="module", params=["http,database", "default"])
def transactions(request: pytest.FixtureRequest, server: Server) -> Iterator[list[dict[str, Any]]]:
    """What the program above sends to Sentry, by stable and by legacy conventions; it exports by OTLP as well."""
    server.requests.clear()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SENTRY_"))}
    with Receiver() as receiver:
        done = subprocess.run(
            [LAUNCHER, sys.executable, "-c", PROGRAM, server.url, "http://127.0.0.1:9/nobody"],
            env={
                **environ,
                "SENTRY_DSN": receiver.dsn,
                "SENTRY_TRACES_SAMPLE_RATE": "1",
                "OTEL_SEMCONV_STABILITY_OPT_IN": request.param,
                "OTEL_SENTRY_TRACE_PROPAGATION_TARGETS": "/target",
                "OTEL_TRACES_EXPORTER": "otel_sentry,otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
                "OTEL_BSP_SCHEDULE_DELAY": "100",
            },
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "ignored a fault" not in done.stderr, done.stderr
        assert len(done.stdout.splitlines()) == 2 * len(CLIENTS), "time-out and refusal, for each client"
        yield receiver.transactions


def spans_of(transactions: list[dict[str, Any]], client: str) -> list[dict[str, Any]]:
    (one,) = [found for found in transactions if found["transaction"] == client]
    return sorted(one["spans"], key=lambda span: float(span["start_timestamp"]))


@pytest.mark.parametrize("client", CLIENTS)
def test_one_span_a_request(transactions: list[dict[str, Any]], server: Server, client: str) -> None:
    """Each request is one span, whatever the client is built on, with the status of its answer or failure."""
    spans = spans_of(transactions, client)
    assert [(span["op"], span["description"], span["status"]) for span in spans] == [
        ("http.client", f"GET {server.url}/target", "ok"),
        ("http.client", f"GET {server.url}/404", "not_found"),
        ("http.client", f"GET {server.url}/500", "internal_error"),
        ("http.client", f"GET {server.url}/slow", "deadline_exceeded"),
        ("http.client", "GET http://127.0.0.1:9/nobody", "internal_error"),
    ]
    assert {span["data"]["server.address"] for span in spans} == {"127.0.0.1"}
    assert spans[0]["data"]["url.full"] == f"{server.url}/target?token=[Filtered]&page=1"
    assert spans[1]["data"]["http.response.status_code"] == 404
    assert all(span["data"]["error.type"] for span in spans[3:])


def test_headers_go_to_targets_only(transactions: list[dict[str, Any]], server: Server) -> None:
    """W3C's headers and Sentry's are on requests to propagation targets, and on no others."""
    targets = [names for path, names in server.requests if path.startswith("/target")]
    others = [names for path, names in server.requests if not path.startswith("/target")]
    assert targets == [TRACE_HEADERS] * len(CLIENTS)
    assert len(others) > 3 * len(CLIENTS) and not any(others)


def test_our_own_requests_are_not_traced(transactions: list[dict[str, Any]], server: Server) -> None:
    """Neither the envelopes to Sentry nor the OTLP exporter's requests are spans or have trace headers."""
    assert any(path == "/v1/traces" for path, _ in server.requests)
    assert sorted(one["transaction"] for one in transactions) == sorted(CLIENTS)
    text = str(transactions)
    assert "/v1/traces" not in text and "/envelope/" not in text


def test_a_hook_of_the_programs_runs_too(server: Server) -> None:
    """A hook given to `instrument` gets span and request; the URL on the span is scrubbed by then."""
    import requests
    from opentelemetry.instrumentation.requests import RequestsInstrumentor as Contrib
    from opentelemetry.sdk.trace import TracerProvider

    from otel_sentry_http import RequestsInstrumentor

    seen: list[Any] = []

    def hook(span: Any, request: Any) -> None:
        seen.append((span.attributes.get("url.full") or span.attributes.get("http.url"), request.method))

    RequestsInstrumentor().instrument(tracer_provider=TracerProvider(shutdown_on_exit=False), request_hook=hook)
    try:
        Contrib().instrument()  # does nothing: one instance for contrib's class and ours
        requests.get(f"{server.url}/x?password=secret", timeout=5)
    finally:
        RequestsInstrumentor().uninstrument()
    assert seen == [(f"{server.url}/x?password=[Filtered]", "GET")]
