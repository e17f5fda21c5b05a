# ruff: noqa: E402 - Django has to be set up first
"""Run requests through the test client, as a test says, and print the spans and SQL queries as JSON.

    python probe.py CODE

CODE sees `client`, `async_client`, `user(name, **fields)`, `asyncio`; everything is real but the HTTP server.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "small.settings")

import django

if os.environ.get("PROBE_BEFORE"):
    exec(os.environ["PROBE_BEFORE"])
django.setup()

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import AsyncClient, Client
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = trace.get_tracer_provider()
if isinstance(provider, TracerProvider):
    provider.add_span_processor(SimpleSpanProcessor(exporter))
with suppress_instrumentation():  # hundreds of statements
    call_command("migrate", verbosity=0)


def user(name: str, **fields: Any) -> Any:
    """Make a user."""
    return get_user_model().objects.create_user(name, f"{name}@example.com", "secret", **fields)


queries: list[str] = []


def _count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    queries.append(sql)
    return execute(sql, params, many, context)


client, async_client = Client(raise_request_exception=False), AsyncClient(raise_request_exception=False)
names: dict[str, Any] = {"client": client, "async_client": async_client, "user": user, "asyncio": asyncio}
exec(os.environ.get("PROBE_SETUP", ""), names)
exporter.clear()
with connection.execute_wrapper(_count):
    exec(sys.argv[1], names)
spans = [
    {
        "name": span.name, "kind": span.kind.name, "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}), "events": [event.name for event in span.events],
        "trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else None,
        "seconds": ((span.end_time or 0) - (span.start_time or 0)) / 1e9,
    }
    for span in exporter.get_finished_spans()
]  # fmt: skip
print(json.dumps({"spans": spans, "queries": queries, "said": names.get("said")}, default=str))
