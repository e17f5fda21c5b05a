"""Profiles: which segments get one, and that the profiler runs while it is needed and no longer."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import set_span_in_context

from otel_sentry import runtime, settings
from otel_sentry.runtime import Runtime
from otel_sentry.sentry import compat, profiling
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.trace.segment import Segment
from otel_sentry.trace.tracestate import Decision
from tests.support.client import DSN


class Fake:
    """sentry_sdk's profiler as we use it; remembers what it was told, and where."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.running = False

    def start(self) -> None:
        self.calls.append("start")
        self.running = True

    def stop(self) -> None:
        self.calls.append("stop")
        self.running = False

    def profiler_id(self) -> str | None:
        return f"id{self.calls.count('start')}" if self.running else None


class Queue:
    """Stands for the sender: keeps errands until they are run."""

    def __init__(self) -> None:
        self.errands: list[Any] = []

    def put(self, item: Any, urgent: bool = False, share: float = 1.0) -> bool:
        self.errands.append(item)
        return True

    def run(self) -> None:
        """As the sender's thread does with what is due."""
        waiting, self.errands = self.errands, []
        for errand in waiting:
            if errand.ready(time.monotonic()):
                errand.encode()
            else:
                self.errands.append(errand)

    def flush(self, closing: bool = False) -> None:
        """As a flush does."""
        profiling._before_flush(closing)
        while self.errands:
            self.errands.pop(0).encode()


@pytest.fixture(autouse=True)
def _nothing_runs() -> Iterator[None]:
    profiling.reset()
    yield
    profiling.reset()
    runtime.set_current(None)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    one = Fake()
    found = compat.Profiler(one.start, one.stop, one.profiler_id, lambda: (1, "Main"))
    monkeypatch.setattr(profiling, "_profiler", found)
    monkeypatch.setattr(profiling, "_TEND_S", 0.02)
    return one


def set_up(**wanted: Any) -> Queue:
    """A set-up in force with a queue for its sender."""
    loaded = settings.load({}, **{"dsn": DSN, "environment": "production", "profiles_sample_rate": 1.0, **wanted})
    queue = Queue()
    runtime.set_current(Runtime(loaded, Dsn.parse(DSN), queue, None, None))  # type: ignore[arg-type]
    return queue


def segment(rand: float = 0.0, rate: float | None = 1.0, trace_id: int | None = None) -> Segment:
    """A sampled segment that begins."""
    trace_id = random.getrandbits(128) if trace_id is None else trace_id
    one = Segment(trace_id, random.getrandbits(64), None, Decision(True, rate, rand))
    profiling.begin(one)
    return one


def test_segments_that_overlap_share_one_profiler(fake: Fake) -> None:
    """Two segments: one start, the same id; the stop comes after the last of them, and a while later."""
    queue = set_up()
    first = segment()
    assert fake.calls == []  # not on the thread of the request
    queue.run()
    second = segment()
    assert first.profile.profiler_id == second.profile.profiler_id == "id1"
    profiling.end(first)
    time.sleep(0.03)
    queue.run()
    assert fake.calls == ["start"]
    profiling.end(second)
    time.sleep(0.03)
    queue.run()
    assert fake.calls == ["start", "stop"]
    assert queue.errands == []


def test_the_next_segment_soon_after_shares_it_too(fake: Fake) -> None:
    """Requests that follow one another have one profiler, not one each."""
    queue = set_up()
    for _ in range(10):
        one = segment()
        queue.run()
        profiling.end(one)
        queue.run()
    assert fake.calls == ["start"]


def test_a_flush_stops_it_when_nobody_needs_it(fake: Fake) -> None:
    """The chunk leaves with the flush; what is still open keeps the profiler, unless it is the end."""
    queue = set_up()
    done, still_open = segment(), segment()
    queue.run()
    profiling.end(done)
    queue.flush()
    assert fake.calls == ["start"]
    profiling.end(still_open)
    queue.flush()
    assert fake.calls == ["start", "stop"]
    segment()
    queue.run()
    queue.flush(closing=True)
    assert fake.calls == ["start", "stop", "start", "stop"]


def test_a_segment_that_was_over_before_the_start_starts_nothing(fake: Fake) -> None:
    """The sender's thread came too late: no profiler for nobody."""
    queue = set_up()
    profiling.end(segment())
    queue.run()
    assert fake.calls == []


def test_a_segment_that_never_ends_does_not_keep_it_for_ever(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time the profiler stops without it."""
    monkeypatch.setattr(profiling, "_MAX_S", 0.01)
    queue = set_up()
    segment()
    queue.run()
    time.sleep(0.05)
    queue.run()
    assert fake.calls == ["start", "stop"]


def test_off_costs_nothing() -> None:
    """Rate 0: no profile, nothing is asked for; and sentry_sdk is not imported for it."""
    queue = set_up(profiles_sample_rate=0.0)
    assert segment().profile is None
    assert queue.errands == []


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_share_is_of_the_sampled(fake: Fake, rate: float) -> None:
    """The share holds among the segments that head sampling kept, whose random numbers are all below its rate."""
    set_up(profiles_sample_rate=rate)
    chance = random.Random(1)
    for traces in (0.1, None):
        drawn = 0
        for _ in range(4000):
            rand = chance.random() * (traces or 1.0)
            one = segment(rand, traces, chance.getrandbits(128))
            drawn += one.profile is not None
            profiling.end(one)
        assert abs(drawn / 4000 - rate) < 0.03


def test_the_same_trace_is_drawn_everywhere() -> None:
    """Two services that continue one trace draw alike."""
    for rate in (0.5, None):
        trace_id = random.getrandbits(128)
        one, other = (Segment(trace_id, span_id, None, Decision(True, rate, 0.2)) for span_id in (1, 2))
        assert profiling.fraction(one) == profiling.fraction(other)


def test_share_of_processes(fake: Fake) -> None:
    """SENTRY_PROFILE_SESSION_SAMPLE_RATE=1: it runs on between segments, till the end of the process."""
    queue = set_up(profiles_sample_rate=0.0, profile_session_sample_rate=1.0)
    profiling.end(segment())
    one = segment()
    queue.run()
    profiling.end(one)
    for _ in range(3):
        time.sleep(0.03)
        queue.run()
    assert fake.calls == ["start"]
    queue.flush(closing=True)
    assert fake.calls == ["start", "stop"]


def test_a_child_starts_anew(fake: Fake) -> None:
    """A forked child believes in no profiler of its parent's."""
    queue = set_up()
    segment()
    queue.run()
    child = os.fork()
    if child == 0:
        os._exit(profiling._running or bool(profiling._active))
    assert os.waitpid(child, 0)[1] == 0
    assert profiling._running


def test_starts_and_stops_from_many_threads(fake: Fake) -> None:
    """Segments that come and go on many threads: starts and stops alternate, all on one thread; none is left on."""
    queue = set_up()
    stop = threading.Event()

    def work() -> None:
        for _ in range(200):
            one = segment()
            time.sleep(0.0001)
            profiling.end(one)

    def send() -> None:
        while not stop.is_set():
            queue.run()

    sender = threading.Thread(target=send)
    sender.start()
    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    sender.join()
    queue.flush()
    assert fake.calls == ["start", "stop"] * (len(fake.calls) // 2)
    assert profiling._active == {}


SCRIPT = """
import json, sys, time
import otel_sentry
from otel_sentry import guard
from otel_sentry.cli.receiver import Receiver
from opentelemetry import trace
with Receiver() as receiver:
    otel_sentry.configure(dsn=receiver.dsn, environment="development", release="x@1", instrument=False)
    tracer = trace.get_tracer("t")
    def request():
        with tracer.start_as_current_span("root"), tracer.start_as_current_span("child"):
            time.sleep(0.1)
    before = "sentry_sdk" in sys.modules
    request()
    deadline = time.monotonic() + 20
    from otel_sentry.sentry import profiling
    while profiling._profiler is None and time.monotonic() < deadline:
        time.sleep(0.01)
    request(), request()
    otel_sentry.flush(5)
    items = [item for one in receiver.envelopes for item in one.items if item.type == "profile_chunk"]
    chunks = [json.loads(item.payload) for item in items]
    print(json.dumps([before, receiver.transactions, chunks, guard.swallowed]))
"""


def test_real_profiler() -> None:
    """With sentry_sdk's own profiler: the first segment has none, the others name the id of the chunk that arrives."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ}, capture_output=True, text=True, timeout=60, check=True
    )
    before, transactions, chunks, swallowed = json.loads(done.stdout)
    assert not before and swallowed == {}, done.stderr
    first, *others = transactions
    assert "profile" not in first["contexts"]
    (chunk,) = chunks
    assert {one["contexts"]["profile"]["profiler_id"] for one in others} == {chunk["profiler_id"]}
    threads = {sample["thread_id"] for sample in chunk["profile"]["samples"]}
    for one in others:
        for fields in (one["contexts"]["trace"], *one["spans"]):
            assert fields["data"]["thread.id"] in threads
            assert fields["data"]["thread.name"] == "MainThread"
    assert (chunk["release"], chunk["environment"]) == ("x@1", "development")


RACE = """
import threading, time
import otel_sentry
otel_sentry.configure(dsn="http://" + "e" * 32 + "@127.0.0.1:9/1", environment="production", instrument=False)
def importing():
    import sentry_sdk
thread = threading.Thread(target=importing, daemon=True)
thread.start()
time.sleep(0.02)
assert otel_sentry.capture_custom_exception(ValueError("meanwhile"))
thread.join()
"""


def test_an_error_while_another_thread_imports_sentry_sdk() -> None:
    """The profiler's import and a first error on another thread do not wait for each other for ever."""
    subprocess.run([sys.executable, "-c", RACE], env={**os.environ}, capture_output=True, timeout=30, check=True)


def test_threads_of_spans(fake: Fake) -> None:
    """Each span names the thread that it began on."""
    from opentelemetry.sdk.trace import TracerProvider

    from otel_sentry.trace.pipeline import SpanPipeline
    from tests.unit.test_pipeline import _Fixed

    set_up()
    pipeline = SpanPipeline(on_begin=profiling.begin)
    provider = TracerProvider(sampler=_Fixed("s:1;r:1;x:0.1"))  # type: ignore[arg-type]
    provider.add_span_processor(pipeline)
    tracer = provider.get_tracer("t")
    root = tracer.start_span("root")
    child = tracer.start_span("child", context=set_span_in_context(root))
    from otel_sentry.trace.segment import segment_of

    found = segment_of(root.get_span_context())
    assert found is not None and found.profile.threads == {
        one.get_span_context().span_id: (1, "Main") for one in (root, child)
    }
    child.end()
    root.end()
    assert trace.get_current_span() is trace.INVALID_SPAN
