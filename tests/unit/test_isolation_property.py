"""Fifty users in any interleaving of threads, greenlets and asyncio tasks: nothing of one is on what another sends."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import greenlet  # type: ignore[import-untyped]
import pytest
import sentry_sdk
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind, Tracer

from otel_sentry import ambient, logs
from otel_sentry.sentry import client, events
from otel_sentry.sentry.transaction import Common, encode_all
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.provider import SentryTracerProvider
from otel_sentry.trace.segment import Segment
from tests.support.client import Sentry, sentry_sdk_set_up
from tests.support.story import Kept
from tests.unit.test_client import capture, raised

NAMES = [f"user{number:02}x" for number in range(50)]
Script = Generator[None, None, None]
log = logging.getLogger("tests.crowd")


class Crowd(logging.Handler):
    """A set-up that makes events, transactions and log snapshots, and keeps them."""

    def __init__(self, sentry: Sentry) -> None:
        super().__init__()
        self.sentry = sentry
        self.transactions: list[dict[str, Any]] = []
        self.snapshots: list[logs.Snapshot] = []
        self._common = Common(environment="test", apply_scope=events.apply_scope)
        pipeline = SpanPipeline(sender=lambda: sentry.sender, encode=self._encode)  # type: ignore[arg-type, return-value]
        provider = SentryTracerProvider(sampler=Kept(), shutdown_on_exit=False)
        provider.add_span_processor(pipeline)
        self.tracer: Tracer = provider.get_tracer("crowd")

    def _encode(self, segment: Segment) -> None:
        self.transactions += [json.loads(one.body.split(b"\n")[2]) for one in encode_all(segment, self._common)]

    def emit(self, record: logging.LogRecord) -> None:
        self.snapshots.append(logs.snapshot(record, pii=True))

    def forget(self) -> None:
        self.transactions.clear()
        self.snapshots.clear()
        self.sentry.sender.envelopes.clear()

    def script(self, name: str) -> Script:
        """One request of *name*; others go on at each `yield`."""
        with self.tracer.start_as_current_span(f"GET /{name}/", kind=SpanKind.SERVER):
            yield
            ambient.set_user({"id": name, "email": f"{name}@example.com"})
            sentry_sdk.set_tag("says", name)
            yield
            sentry_sdk.add_breadcrumb(message=f"crumb of {name}")
            with self.tracer.start_as_current_span(f"speech of {name}"):
                yield
                log.warning("%s speaks", name)
                ambient.set_business_context("talk", "mall", speaker=name)
                yield
            capture(raised(ValueError(f"{name} failed")))
            yield
            ambient.crumb("talk", f"{name} is done")
            log.warning("%s ends", name)


def in_greenlets(scripts: list[Script], order: list[int]) -> None:
    main = greenlet.getcurrent()

    def work(script: Script) -> None:
        for _ in script:
            main.switch()

    workers = [greenlet.greenlet(work) for _ in scripts]
    for number in order:
        workers[number].switch(*([] if workers[number] else [scripts[number]]))


def in_threads(scripts: list[Script], order: list[int]) -> None:
    turns = [threading.Semaphore(0) for _ in scripts]
    back = threading.Semaphore(0)

    def work(number: int) -> None:
        turns[number].acquire()
        for _ in scripts[number]:
            back.release()
            turns[number].acquire()
        back.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(scripts))]
    for thread in threads:
        thread.start()
    for number in order:
        turns[number].release()
        back.acquire()
    for thread in threads:
        thread.join()


def in_tasks(scripts: list[Script], order: list[int]) -> None:
    async def run() -> None:
        turns = [asyncio.Semaphore(0) for _ in scripts]
        back = asyncio.Semaphore(0)

        async def work(number: int) -> None:
            await turns[number].acquire()
            for _ in scripts[number]:
                back.release()
                await turns[number].acquire()
            back.release()

        tasks = [asyncio.create_task(work(number)) for number in range(len(scripts))]
        for number in order:
            turns[number].release()
            await back.acquire()
        await asyncio.gather(*tasks)

    asyncio.run(run())


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with sentry_sdk_set_up(send_default_pii=True) as sentry:
        assert client.ensure()
        made = Crowd(sentry)
        log.addHandler(made)
        yield made
        log.removeHandler(made)


@pytest.mark.parametrize("run", [in_greenlets, in_threads, in_tasks])
@pytest.mark.once
@settings(
    max_examples=5, deadline=None, database=None, phases=[Phase.generate],  # a shrunk shuffle says no more
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers(0, 2**32))
def test_nothing_carries_data_of_two(crowd: Crowd, run: Callable[[list[Script], list[int]], None], seed: int) -> None:
    """Each event, transaction and log record has one user's marks only, in places where they belong."""
    crowd.forget()
    order = [number for number in range(len(NAMES)) for _ in range(6)]
    random.Random(seed).shuffle(order)
    run([crowd.script(name) for name in NAMES], order)
    owners: dict[str, str] = {}
    for event in crowd.sentry.unchecked:
        name = _only(event, event["contexts"]["trace"]["trace_id"], owners)
        assert (event["user"]["id"], event["tags"]["says"]) == (name, name)
        assert event["contexts"]["business_context"]["details"] == {"speaker": name}
        assert f"crumb of {name}" in [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
    for one in crowd.transactions:
        name = _only(one, one["contexts"]["trace"]["trace_id"], owners)
        assert (one["user"]["id"], one["tags"]["says"]) == (name, name)
        assert [span["description"] for span in one["spans"]] == [f"speech of {name}"]
    for snapshot in crowd.snapshots:
        said = repr(snapshot)
        assert len(set(re.findall(r"user\d\dx", said))) == 1 and "'user.id'" in said
    counts = len(crowd.sentry.unchecked), len(crowd.transactions), len(crowd.snapshots), len(owners)
    assert counts == (50, 50, 100, 50)


def _only(one: dict[str, Any], trace: str, owners: dict[str, str]) -> str:
    """The one user in *one*, who owns its trace."""
    (name,) = {str(mark) for mark in re.findall(r"user\d\dx", json.dumps(one))}
    assert owners.setdefault(trace, name) == name
    return name
