"""The whole way in one process: our provider, sampler, pipeline, sender, and what a server on loopback received."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import Tracer

from otel_sentry import bootstrap, runtime, settings, wiring
from otel_sentry.cli.receiver import Receiver
from otel_sentry.trace import buffer
from tests.support.client import sentry_sdk_set_up
from tests.support.relay import assert_relay_ok

Event = dict[str, Any]


class Wire:
    """A set-up in force, and its server's view of it."""

    def __init__(self, built: runtime.Runtime, receiver: Receiver) -> None:
        self.built = built
        self.receiver = receiver
        self.provider = wiring.make_provider(built)
        self.provider.add_span_processor(built.pipeline)
        built.provider = self.provider
        self.tracer: Tracer = self.provider.get_tracer("shop")

    def flush(self, timeout: float = 20.0) -> None:
        """Wait until all that is queued has arrived."""
        assert self.built.sender is not None
        assert self.built.sender.flush(timeout)

    def sent(self, *, check: bool = True) -> list[Event]:
        """The transactions so far; each of them is one that Relay takes as it is."""
        self.flush()
        assert self.receiver.faults == []
        if check:
            for event in self.receiver.transactions:
                assert_relay_ok(event)
        return list(self.receiver.transactions)

    def by_name(self) -> dict[str, Event]:
        """The same by transaction name, each of which came once."""
        found = self.sent()
        assert len({event["transaction"] for event in found}) == len(found)
        return {event["transaction"]: event for event in found}

    def losses(self) -> dict[tuple[str, str], int]:
        """What the client reports that arrived say was lost."""
        found: dict[tuple[str, str], int] = {}
        for report in self.receiver.items("client_report"):
            for one in report["discarded_events"]:
                key = (one["reason"], one["category"])
                found[key] = found.get(key, 0) + one["quantity"]
        return found


@contextmanager
def wired(receiver: Receiver, **wanted: Any) -> Iterator[Wire]:
    """A set-up that sends to *receiver*; *wanted* are settings. All is taken away at the end."""
    gc.collect()  # what an earlier test left to the collector must not end in this one
    with sentry_sdk_set_up(dsn=receiver.dsn):
        before = {"dsn": receiver.dsn, "environment": "production", "release": "shop@1", "server_name": "host1"}
        built = bootstrap.build(settings.load({}, **{**before, "traces_sample_rate": 1.0, **wanted}))
        assert built is not None and built.sender is not None
        bootstrap._common_for.cache_clear()
        buffer.total.bytes = 0
        try:
            yield Wire(built, receiver)
        finally:
            built.sender.close(2)


def children(event: Event) -> dict[str, Event]:
    """A transaction's spans by description."""
    return {span["description"]: span for span in event["spans"]}


def trace(event: Event) -> Event:
    """A transaction's ``contexts.trace``."""
    found: Event = event["contexts"]["trace"]
    return found
