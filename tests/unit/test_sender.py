"""The sender against a real loopback server: order, bounds, limits, answers and accounting."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_sentry import counters, guard
from otel_sentry.cli.receiver import Receiver
from otel_sentry.sentry import http
from otel_sentry.sentry.delivery import compress
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.sentry.lanes import Lanes
from otel_sentry.sentry.ratelimit import Backpressure, Breaker, RateLimits
from otel_sentry.sentry.sender import Envelope, Ready, Sender, Target, sentry_target

ERROR, SPANS = (("error", 1),), (("transaction", 1), ("span", 3))


def envelope(name: str, categories: tuple[tuple[str, int], ...] = SPANS, pad: int = 0) -> Envelope:
    """An envelope with one item that carries *name*."""
    payload = json.dumps({"name": name, "pad": "x" * pad})
    kind = "event" if categories == ERROR else "transaction"
    header = json.dumps({"type": kind, "length": len(payload)})
    return Envelope(f"{{}}\n{header}\n{payload}\n".encode(), categories)


def item(name: str, categories: tuple[tuple[str, int], ...] = SPANS, pad: int = 0) -> Ready:
    """The same, ready to be put."""
    return Ready(envelope(name, categories, pad))


class Late:
    """An item that waits for late children until *grace* seconds have passed, or forever."""

    def __init__(self, name: str, grace: float, encode: Callable[[], Envelope | None] | None = None) -> None:
        self.size = 100
        self.categories = SPANS
        self.not_before = time.monotonic() + grace
        self.asked = 0
        self._encode = encode or (lambda: envelope(name))

    def ready(self, now: float) -> bool:
        self.asked += 1
        return now >= self.not_before

    def encode(self) -> Envelope | None:
        return self._encode()


@pytest.fixture
def make(receiver: Receiver) -> Iterator[Callable[..., Sender]]:
    """Senders to the receiver, closed at the end without their exit line."""
    made: list[Sender] = []

    def one(**settings: Any) -> Sender:
        sender = Sender([sentry_target(Dsn.parse(receiver.dsn))], **settings)
        made.append(sender)
        return sender

    yield one
    for sender in made:
        sender.close(0.2)


def names(receiver: Receiver) -> list[str]:
    """Names of the items accepted, in order of arrival."""
    return [one.json["name"] for got in receiver.envelopes for one in got.items if one.type != "client_report"]


def test_delivers_on_one_connection(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """Fifty envelopes arrive whole, gzipped, in order, with the auth header, on one kept connection."""
    sender = make()
    for number in range(50):
        assert sender.put(item(str(number)))
    assert sender.flush(5.0)
    assert names(receiver) == [str(number) for number in range(50)]
    assert receiver.connections == 1
    assert receiver.faults == []
    headers = {name.lower(): value for name, value in receiver.envelopes[0].http_headers.items()}
    assert headers["content-encoding"] == "gzip"
    assert headers["content-type"] == "application/x-sentry-envelope"
    assert sender.stats.delivered == {"transaction": 50, "span": 150}
    assert (sender.stats.queued, sender.stats.queued_bytes) == (0, 0)


def test_no_thread_before_the_first_put(make: Callable[..., Sender]) -> None:
    """A sender that was given nothing has no thread, and closes at once."""
    sender = make()
    assert sender._run is None
    started = time.monotonic()
    sender.close()
    assert sender._run is None
    assert time.monotonic() - started < 0.1


def test_urgent_first(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """While one envelope is in flight, an error overtakes other urgent items, and these the spans."""
    receiver.answer(delay=0.3)
    sender = make()
    sender.put(item("first"))
    receiver.wait_for(lambda r: r.connections)
    time.sleep(0.1)
    for name, categories, urgent in (
        ("span", SPANS, False),
        ("check-in", (("monitor", 1),), True),
        ("error", ERROR, True),
    ):
        sender.put(item(name, categories), urgent=urgent)
    assert sender.flush(5.0)
    assert names(receiver) == ["first", "error", "check-in", "span"]


def test_grace_does_not_block(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """An item that waits for late children lets others pass, is sent in time, and is not asked all along."""
    sender = make()
    late = Late("late", 0.3)
    sender.put(late)
    sender.put(item("quick"))
    receiver.wait_for(lambda r: len(names(r)) == 1, 0.25)
    receiver.wait_for(lambda r: len(names(r)) == 2, 2.0)
    assert names(receiver) == ["quick", "late"]
    assert late.asked < 10


def test_flush_ignores_grace(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """A flush sends what would still have waited, and returns when it has arrived."""
    sender = make()
    sender.put(Late("late", 60.0))
    time.sleep(0.05)
    started = time.monotonic()
    assert sender.flush(5.0)
    assert time.monotonic() - started < 1.0
    assert names(receiver) == ["late"]


@pytest.mark.allow_swallowed
def test_encode_that_fails(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """An item whose encoding raises is counted as our fault, one that encodes to None is not."""

    def fails() -> Envelope:
        raise LookupError("defect")

    sender = make()
    sender.put(Late("bad", 0.0, fails))
    sender.put(Late("empty", 0.0, lambda: None))
    sender.put(item("good"))
    assert sender.flush(5.0)
    assert names(receiver) == ["good"]
    assert counters.snapshot() == {
        ("internal_sdk_error", "transaction"): 1,
        ("internal_sdk_error", "span"): 3,
    }
    assert guard.swallowed == {"sender.encode": 1}


def test_rate_limit_per_category(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """A limit on transactions drops those only; the refused one is the server's to count."""
    receiver.answer(429, {"X-Sentry-Rate-Limits": "60:transaction;span:key"})
    sender = make()
    sender.put(item("refused"))
    assert sender.flush(5.0)
    assert not sender.healthy
    sender.put(item("dropped"))
    sender.put(item("error", ERROR), urgent=True)
    assert sender.flush(5.0)
    assert names(receiver) == ["error"]
    assert len(receiver.attempts) == 2
    assert sender.stats.refused == {"transaction": 1, "span": 3}
    assert counters.snapshot() == {
        ("ratelimit_backoff", "transaction"): 1,
        ("ratelimit_backoff", "span"): 3,
    }


def test_retry_after_holds_everything(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """A 429 with Retry-After alone holds back every category until it is over."""
    receiver.answer(429, {"Retry-After": "1"})
    sender = make()
    sender.put(item("refused"))
    assert sender.flush(5.0)
    sender.put(item("dropped", ERROR), urgent=True)
    assert sender.flush(5.0)
    assert names(receiver) == []
    time.sleep(1.0)
    sender.put(item("later", ERROR), urgent=True)
    assert sender.flush(5.0)
    assert names(receiver) == ["later"]


@pytest.mark.parametrize(("status", "reason"), [(413, "send_error"), (400, "network_error"), (403, "network_error")])
def test_refusals(receiver: Receiver, make: Callable[..., Sender], status: int, reason: str) -> None:
    """A 4xx is final: counted, not tried again, and the next item goes on at once."""
    receiver.answer(status)
    sender = make()
    sender.put(item("refused", ERROR), urgent=True)
    sender.put(item("next", ERROR), urgent=True)
    assert sender.flush(5.0)
    assert names(receiver) == ["next"]
    assert counters.snapshot() == {(reason, "error"): 1}


def test_client_reports(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """What was lost is reported at close, each loss once, in Sentry's format."""
    counters.lost("sample_rate", "transaction", 7)
    sender = make()
    sender.put(item("one"))
    sender.flush(5.0)
    counters.lost("queue_overflow", "span", 2)
    sender.close()
    events = [event for report in receiver.items("client_report") for event in report["discarded_events"]]
    assert sorted((e["reason"], e["category"], e["quantity"]) for e in events) == [
        ("queue_overflow", "span", 2),
        ("sample_rate", "transaction", 7),
    ]
    assert counters.drain() == []


def test_client_report_rides_along(
    receiver: Receiver, make: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses go as an extra item of a later envelope; when that is refused, they stay."""
    monkeypatch.setattr("otel_sentry.sentry.delivery._REPORT_WITH_OTHERS_S", 0.0)
    receiver.answer(400)
    counters.lost("sample_rate", "span", 4)
    sender = make()
    sender.put(item("refused", ERROR))
    assert sender.flush(5.0)
    sender.put(item("taken", ERROR))
    assert sender.flush(5.0)
    (got,) = receiver.envelopes
    assert [one.type for one in got.items] == ["event", "client_report"]
    assert {(e["reason"], e["quantity"]) for e in got.items[1].json["discarded_events"]} == {
        ("sample_rate", 4),
        ("network_error", 1),
    }


def test_overflow_drops_the_newest_span_first(make: Callable[..., Sender], receiver: Receiver) -> None:
    """Full: a new span item is dropped; an error evicts spans, then other urgent items, never an error."""
    receiver.answer(delay=0.5)
    sender = make(queue_size=4)  # the one in flight included
    sender.put(item("in flight"))
    receiver.wait_for(lambda r: r.connections)
    time.sleep(0.1)
    assert sender.put(item("s1"))
    assert sender.put(item("s2"))
    assert sender.put(item("session", (("session", 1),)), urgent=True)
    assert not sender.put(item("s3"))
    assert not sender.healthy
    for name in ("e1", "e2", "e3"):
        assert sender.put(item(name, ERROR), urgent=True)
    assert not sender.put(item("e4", ERROR), urgent=True)
    assert sender.flush(5.0)
    assert names(receiver) == ["in flight", "e1", "e2", "e3"]
    assert counters.snapshot() == {
        ("queue_overflow", "transaction"): 3,
        ("queue_overflow", "span"): 9,
        ("queue_overflow", "session"): 1,
        ("queue_overflow", "error"): 1,
    }


def test_bytes_are_bounded() -> None:
    """The queue is full by bytes as well; what is larger than all of it evicts nothing."""
    lanes = Lanes(100, 10_000)
    assert [*lanes.admit(item("a", pad=6_000), False)] == []
    second = item("b", pad=6_000)
    assert [*lanes.admit(second, False)] == [second]
    huge = item("c", ERROR, pad=20_000)
    assert [*lanes.admit(huge, True)] == [huge]
    assert len(lanes) == 1
    error = item("d", ERROR, pad=6_000)
    assert [one.categories for one in lanes.admit(error, True)] == [SPANS]
    taken = lanes.pop(0.0, False)
    assert taken is not None and taken[0] is error
    lanes.done(error.size)
    assert lanes.bytes == 0


def test_second_target(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    """Spotlight gets the same items; when it goes away that is said once, and Sentry's share goes on."""
    with Receiver() as spotlight:
        targets = [
            sentry_target(Dsn.parse(receiver.dsn)),
            Target(Dsn.parse(spotlight.dsn).envelope_url, {}, primary=False),
        ]
        targets[1] = targets[1]._replace(
            headers={"X-Sentry-Auth": Dsn.parse(spotlight.dsn).auth_header}
        )  # the receiver wants it
        sender = Sender(targets)
        sender.put(item("both"))
        assert sender.flush(5.0)
        assert names(spotlight) == names(receiver) == ["both"]
        assert "Content-Encoding" not in spotlight.envelopes[0].http_headers
    sender.put(item("one"))
    sender.put(item("two"))
    assert sender.flush(5.0)
    sender.close()
    assert names(receiver) == ["both", "one", "two"]
    assert capfd.readouterr().err.count("second target") == 1


def test_close_is_final(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """After close nothing is queued, the thread is gone, and what comes is counted."""
    sender = make()
    sender.put(item("one"))
    sender.close()
    assert not sender.put(item("two"))
    assert names(receiver) == ["one"]
    assert sender.flush(0.1)
    assert counters.snapshot()["queue_overflow", "span"] == 3


def test_put_from_within_put(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """A put inside a put (the garbage collector ends a span there) is delivered like any other."""
    sender = make()

    class Reentrant(Ready):
        done = False

        @property
        def size(self) -> int:
            if not Reentrant.done:
                Reentrant.done = True
                sender.put(item("inner"))
            return 10

        @size.setter
        def size(self, value: int) -> None:
            pass

    sender.put(Reentrant(envelope("outer")))
    assert sender.flush(5.0)
    assert sorted(names(receiver)) == ["inner", "outer"]


def test_proxy_and_no_proxy(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for the URL's scheme means urllib3's pool, unless NO_PROXY names the host."""
    timeouts = http.Timeouts()
    assert isinstance(http.connect("http://a.example/x", timeouts), http.Direct)
    assert isinstance(http.connect("http://a.example/x", timeouts, https_proxy="http://p:1"), http.Direct)
    assert isinstance(http.connect("http://a.example/x", timeouts, http_proxy="p:1"), http.Pooled)
    monkeypatch.setenv("NO_PROXY", "a.example")
    assert isinstance(http.connect("http://a.example/x", timeouts, http_proxy="http://p:1"), http.Direct)
    with pytest.raises(ValueError, match="URL"):
        http.connect("file:///x", timeouts)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the source ends."""
    while data := source.recv(65536):
        sink.sendall(data)


def test_through_a_proxy(receiver: Receiver) -> None:
    """A proxy's URL with credentials: they go to the proxy, the envelope arrives through it."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def proxy() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", receiver.port)) as upstream:
            threading.Thread(target=pump, args=(upstream, client), daemon=True).start()
            while data := client.recv(65536):
                seen.append(data)
                upstream.sendall(data.replace(f"http://127.0.0.1:{receiver.port}".encode(), b"", 1))

    threading.Thread(target=proxy, daemon=True).start()
    sender = Sender(
        [sentry_target(Dsn.parse(receiver.dsn))],
        http_proxy=f"http://user:pa%40ss@127.0.0.1:{listener.getsockname()[1]}",
    )
    sender.put(item("proxied", ERROR), urgent=True)
    assert sender.flush(5.0)
    sender.close()
    listener.close()
    assert names(receiver) == ["proxied"]
    assert b"dXNlcjpwYUBzcw==" in seen[0]
    assert seen[0].startswith(b"POST http://127.0.0.1")


def test_own_traffic_is_suppressed(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """While the thread encodes and posts, OTel's instrumentation is suppressed there."""
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    seen: list[bool] = []

    def encode() -> Envelope:
        seen.append(is_instrumentation_enabled())
        return envelope("x")

    sender = make()
    sender.put(Late("x", 0.0, encode))
    assert sender.flush(5.0)
    assert seen == [False]
    assert is_instrumentation_enabled()


def test_flush_without_a_thread(
    receiver: Receiver, make: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started (interpreter exit, from 3.12 on), the caller of flush sends."""

    def refuse(*args: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr("_thread.start_new_thread", refuse)  # `threading` has a reference of its own
    sender = make()
    sender.put(item("one"))
    sender.put(Late("late", 60.0))
    assert sender.flush(5.0)
    assert names(receiver) == ["one", "late"]
    assert sender.stats.delivered == {"transaction": 2, "span": 6}
    assert sender._run is None


@pytest.mark.parametrize(
    ("status", "headers", "limited", "free"),
    [
        (200, {"x-sentry-rate-limits": "10:error:org"}, ["error"], ["transaction", "span"]),
        (429, {"x-sentry-rate-limits": "10::organization"}, ["error", "anything"], []),
        (
            429,
            {"x-sentry-rate-limits": "10:span;log_item:key:reason:ns, 20:error"},
            ["span", "log_item", "error"],
            ["transaction"],
        ),
        (429, {"x-sentry-rate-limits": "nonsense"}, [], ["error"]),
        (429, {"x-sentry-rate-limits": "x:error:org"}, ["error"], ["span"]),
        (429, {}, ["error"], []),
        (429, {"retry-after": "nan"}, ["error"], []),
        (429, {"retry-after": "-5"}, [], ["error"]),
        (503, {"retry-after": "10"}, [], ["error"]),
        (429, {"retry-after": "Fri, 31 Dec 2066 23:59:59 GMT"}, ["error"], []),
    ],
)
def test_reading_limits(status: int, headers: dict[str, str], limited: list[str], free: list[str]) -> None:
    """Limits by category, for all, several at once, and every malformed form, which never raises."""
    limits = RateLimits()
    limits.update(status, headers, 100.0)
    assert all(limits.limited(category, 105.0) for category in limited)
    assert not any(limits.limited(category, 105.0) for category in free)
    assert not any(limits.limited(category, 100.0 + 25 * 3600) for category in limited)


def test_breaker() -> None:
    """Waits grow as min(2**n, 60) with jitter; success ends them; a flush doesn't wait for long."""
    breaker = Breaker()
    assert breaker.next_try() <= 0.0
    waits = []
    for _ in range(200):
        breaker.failed(1000.0)
        waits.append(breaker.next_try() - 1000.0)
    assert waits[0] <= 2.0
    assert 20.0 < max(waits) <= 60.0
    assert min(waits) >= 0.1
    assert breaker.next_try(hurry=True) <= 1000.25
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.next_try() == 0.0


def test_backpressure() -> None:
    """Ten seconds of trouble are one halving more, up to ten; one healthy look takes all back."""
    pressure = Backpressure()
    assert [pressure.factor(now, lambda: False) for now in (0.0, 5.0, 10.0, 15.0, 20.0)] == [1, 1, 2, 2, 3]
    assert [pressure.factor(100.0 + 10 * n, lambda: False) for n in range(20)][-1] == 10
    assert pressure.factor(1000.0, lambda: True) == 0


def test_downsample_factor(receiver: Receiver, make: Callable[..., Sender]) -> None:
    """A sender under a rate limit asks for half the rate."""
    sender = make()
    receiver.answer(429)
    sender.put(item("x"))
    assert sender.flush(5.0)
    assert sender.downsample_factor == 1


def test_compress_small_and_large() -> None:
    """Both settings of gzip give back what went in."""
    import gzip

    for body in (b"", b"x" * 100, b"abc" * 100_000):
        assert gzip.decompress(compress(body)) == body
