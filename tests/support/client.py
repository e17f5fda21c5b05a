"""sentry_sdk in a test: a set-up in force whose sender only collects."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

from otel_sentry import runtime, settings
from otel_sentry.runtime import Runtime
from otel_sentry.sentry import client, events, hooks, isolation, takeover
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.provider import SentryTracerProvider
from otel_sentry.trace.segment import table
from tests.support.relay import assert_relay_ok

DSN = "https://public@o123.ingest.example.test/42"


class Envelope:
    """One envelope: its header, and its items as (header, payload)."""

    def __init__(self, body: bytes, categories: Any, urgent: bool) -> None:
        lines = body.split(b"\n")
        self.header: dict[str, Any] = json.loads(lines[0])
        self.categories = categories
        self.urgent = urgent
        self.items = [
            (json.loads(head), json.loads(payload)) for head, payload in zip(lines[1::2], lines[2::2], strict=False)
        ]


class Collecting:
    """The sender's interface, without a thread."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.flushed: list[float] = []
        self.closed = False

    def put(self, item: Any, urgent: bool = False, share: float = 1.0) -> bool:
        made = item.encode()
        if made is not None:
            self.envelopes.append(Envelope(made.body, made.categories, urgent))
        return True

    def flush(self, timeout: float) -> bool:
        self.flushed.append(timeout)
        return True

    def close(self, timeout: float | None = None) -> None:
        self.closed = True


class Sampler:
    """Remembers the settings that it was updated with."""

    def __init__(self) -> None:
        self.updated: list[Any] = []

    def update(self, new: Any) -> None:
        self.updated.append(new)


class Sentry:
    """What a test sees: the set-up, its events, a tracer."""

    def __init__(self, current: Runtime, sender: Collecting, provider: SentryTracerProvider) -> None:
        self.runtime = current
        self.sender = sender
        self.provider = provider
        self.tracer: Tracer = provider.get_tracer("tests")

    @property
    def events(self) -> list[dict[str, Any]]:
        """The error events so far; each of them is one that Relay takes."""
        for event in self.unchecked:
            assert_relay_ok(event)
        return self.unchecked

    @property
    def unchecked(self) -> list[dict[str, Any]]:
        """The same without Relay, which objects to every note that something was filtered."""
        return [
            payload for envelope in self.sender.envelopes for head, payload in envelope.items if head["type"] == "event"
        ]

    @property
    def event(self) -> dict[str, Any]:
        """The one error event."""
        (only,) = self.events
        return only


@contextmanager
def sentry_sdk_set_up(**wanted: Any) -> Iterator[Sentry]:
    """A set-up in force, and everything of it taken away at the end."""
    loaded = settings.load({}, **{"dsn": DSN, "environment": "production", "server_name": "host1", **wanted})
    loaded = dataclasses.replace(loaded, release=wanted.get("release"))  # not this repository's commit
    sender = Collecting()
    pipeline = SpanPipeline(sender=lambda: None)
    current = Runtime(loaded, Dsn.parse(DSN), sender, Sampler(), pipeline)  # type: ignore[arg-type]
    provider = SentryTracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(pipeline)
    runtime.set_current(current)
    try:
        yield Sentry(current, sender, provider)
    finally:
        runtime.set_current(None)
        hooks.uninstall()
        takeover.uninstall()
        client.reset()
        table.clear()
        events.forget()
        _forget_scopes()


def _forget_scopes() -> None:
    import sentry_sdk
    from sentry_sdk.scope import global_event_processors

    isolation.uninstall()
    for scope in (
        sentry_sdk.get_global_scope(),
        sentry_sdk.get_isolation_scope(),
        sentry_sdk.get_current_scope(),
    ):
        scope.clear()
        scope.set_client(None)
    for one in list(global_event_processors):
        if str(getattr(one, "__module__", "")).startswith("tests"):
            global_event_processors.remove(one)
