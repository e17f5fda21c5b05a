"""What the network, forks, many threads, gevent and the end of the interpreter do to the sender."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_sentry import counters
from otel_sentry.cli.receiver import Receiver
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.sentry.sender import Envelope, Ready, Sender, sentry_target

ROOT = Path(__file__).parents[2]
KEY = "e" * 32
ERROR, SPANS = (("error", 1),), (("transaction", 1), ("span", 3))


def item(name: str, categories: tuple[tuple[str, int], ...] = SPANS, pad: int = 0) -> Ready:
    """An envelope with one item that carries *name*."""
    payload = json.dumps({"name": name, "pad": os.urandom(pad).hex()})
    kind = "event" if categories == ERROR else "transaction"
    return Ready(Envelope(f'{{}}\n{{"type":"{kind}","length":{len(payload)}}}\n{payload}\n'.encode(), categories))


def names(receiver: Receiver) -> list[str]:
    """Names of the items accepted, in order of arrival."""
    return [one.json["name"] for got in receiver.envelopes for one in got.items if one.type != "client_report"]


def to(port: int, **settings: float) -> Sender:
    """A sender to a port of this machine."""
    return Sender([sentry_target(Dsn.parse(f"http://{KEY}@127.0.0.1:{port}/1"))], **settings)  # type: ignore[arg-type]


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_5xx_then_recovery(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    """What was answered 503 is kept and delivered once the server recovers; one line is said about it."""
    receiver.answer(503, times=3)
    sender = to(receiver.port)
    for name in ("a", "b", "c"):
        sender.put(item(name))
    assert sender.flush(10.0)
    sender.close()
    assert sorted(names(receiver)) == ["a", "b", "c"]
    assert counters.snapshot() == {}
    said = capfd.readouterr().err
    assert said.count("can't be delivered for now: HTTP 503 from 127.0.0.1") == 1
    assert KEY not in said


def test_recovery_without_a_flush(receiver: Receiver) -> None:
    """The backoff ends by itself."""
    receiver.answer(502)
    sender = to(receiver.port)
    sender.put(item("a", ERROR), urgent=True)
    receiver.wait_for(lambda r: names(r) == ["a"], 5.0)
    sender.close()


def test_an_item_that_always_fails(receiver: Receiver) -> None:
    """One item that the server answers with 500 every time does not keep the others back, and is given up."""
    sender = to(receiver.port)
    bad, good = item("bad"), [item(f"good {number}") for number in range(3)]
    receiver.answer(500, times=5)
    bad.attempts = 4
    bad.first_failed = time.monotonic() - 100
    sender.put(item("before"))
    receiver.answer(200, times=0)
    sender._delivery._last_success = time.monotonic()
    sender.put(bad)
    for one in good:
        sender.put(one)
    assert sender.flush(10.0)
    sender.close()
    assert sorted(names(receiver)) == ["before", "good 0", "good 1", "good 2"]
    assert counters.snapshot() == {("network_error", "transaction"): 1, ("network_error", "span"): 3}


def test_refused_port(closed_port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody listens: items are kept up to the bounds, close is quick, one line says what was lost."""
    sender = to(closed_port, queue_size=10)
    for number in range(3):
        sender.put(item(str(number), ERROR), urgent=True)
    for number in range(20):
        sender.put(item(str(number)))
    started = time.monotonic()
    sender.close(1.0)
    assert time.monotonic() - started < 1.3
    lost = counters.snapshot()
    total = {
        category: sum(n for (_, c), n in lost.items() if c == category) for category in ("error", "transaction", "span")
    }
    assert total == {"error": 3, "transaction": 20, "span": 60}
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert "connection refused by 127.0.0.1" in said[0]
    assert "3 errors" in said[1] and "not delivered: connection refused by 127.0.0.1" in said[1]
    assert "not delivered: the queue was full" in said[1]
    assert KEY not in "".join(said)


def test_server_that_comes_later(closed_port: int) -> None:
    """What was put while nobody listened is delivered when the server comes up."""
    sender = to(closed_port)
    sender.put(item("early"))
    time.sleep(0.1)
    with Receiver(port=closed_port) as receiver:
        assert sender.flush(5.0)
        assert names(receiver) == ["early"]
        sender.close()


def test_stalled_server(receiver: Receiver) -> None:
    """No answer within the read timeout: the envelope is sent again on a new connection."""
    receiver.answer(delay=1.5)
    sender = to(receiver.port, read_timeout=0.3)
    sender.put(item("slow"))
    assert sender.flush(5.0)
    sender.close()
    assert receiver.connections == 2
    receiver.wait_for(lambda r: len(r.attempts) == 2)
    assert set(names(receiver)) == {"slow"}


def test_close_is_bounded(black_hole: int) -> None:
    """Close gives up in time even while the thread waits for an answer, and counts what is in flight."""
    sender = to(black_hole)
    sender.put(item("in flight"))
    sender.put(item("waiting"))
    time.sleep(0.1)
    started = time.monotonic()
    assert not sender.flush(0.3)
    assert 0.25 < time.monotonic() - started < 0.6
    sender.close(0.3)
    assert time.monotonic() - started < 1.0
    assert counters.snapshot() == {("network_error", "transaction"): 2, ("network_error", "span"): 6}


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the source ends."""
    while data := source.recv(65536):
        sink.sendall(data)


def test_reset_in_mid_body(receiver: Receiver) -> None:
    """The connection is reset while the body is on its way: sent again."""
    with socket.create_server(("127.0.0.1", 0)) as front:

        def serve() -> None:
            client, _ = front.accept()
            client.recv(1000)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            client, _ = front.accept()
            with client, socket.create_connection(("127.0.0.1", receiver.port)) as upstream:
                threading.Thread(target=pump, args=(upstream, client), daemon=True).start()
                pump(client, upstream)

        threading.Thread(target=serve, daemon=True).start()
        sender = to(front.getsockname()[1])
        big = item("big", pad=500_000)
        sender.put(big)
        assert sender.flush(10.0)
        sender.close()
    assert names(receiver) == ["big"]


def test_stale_connection(receiver: Receiver) -> None:
    """A kept connection that the server closed in between is replaced at once, without backoff or line."""
    sender = to(receiver.port)
    sender.put(item("one"))
    assert sender.flush(5.0)
    receiver._server.hang_up_all()
    time.sleep(0.05)
    started = time.monotonic()
    sender.put(item("two"))
    assert sender.flush(5.0)
    assert time.monotonic() - started < 0.2
    sender.close()
    assert names(receiver) == ["one", "two"]
    assert receiver.connections == 2
    assert sender._delivery.trouble == ""


def test_connection_close_is_obeyed(receiver: Receiver) -> None:
    """An answer with ``Connection: close`` ends the connection on our side too."""
    receiver.answer(200, {"Connection": "close"})
    sender = to(receiver.port)
    sender.put(item("one"))
    sender.put(item("two"))
    assert sender.flush(5.0)
    sender.close()
    assert (names(receiver), receiver.connections) == (["one", "two"], 2)


def test_many_threads(receiver: Receiver) -> None:
    """20 threads put 500 items each while the queue is large enough: every one arrives exactly once."""
    sender = to(receiver.port, queue_size=20_000)

    def work(thread: int) -> None:
        for number in range(500):
            sender.put(item(f"{thread}/{number}", ERROR if number % 5 == 0 else SPANS), urgent=number % 5 == 0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sender.flush(60.0)
    assert sender.stats.delivered == {"error": 2_000, "transaction": 8_000, "span": 24_000}
    got = names(receiver)
    assert len(got) == len(set(got)) == 10_000
    assert (sender.stats.queued, sender.stats.queued_bytes) == (0, 0)
    sender.close()


def test_produced_is_delivered_plus_lost(receiver: Receiver) -> None:
    """Under overflow, 4xx, 500 and resets every item is delivered, refused or counted as lost."""
    for status in (413, 200, 500, 200, 200, 400):
        receiver.answer(status)
    receiver.answer(hang_up=True)
    receiver.answer(429, {"X-Sentry-Rate-Limits": "1:transaction:org"})
    sender = to(receiver.port, queue_size=50)
    accepted = [0] * 8

    def work(thread: int) -> None:
        for number in range(300):
            accepted[thread] += sender.put(item(f"{thread}/{number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sender.flush(20.0)
    sender.close()
    for category, produced in (("transaction", 2_400), ("span", 7_200)):
        lost = sum(n for (_, c), n in counters.snapshot().items() if c == category)
        stats = sender.stats
        assert stats.delivered[category] + stats.refused[category] + lost == produced
    assert len(set(names(receiver))) >= sender.stats.delivered["transaction"]


@pytest.mark.parametrize("queued", [False, True], ids=["idle", "busy"])
def test_fork(receiver: Receiver, queued: bool) -> None:
    """A child delivers its own items on its own connection, and nothing that its parent had queued."""
    sender = to(receiver.port)
    sender.put(item("before"))
    assert sender.flush(5.0)
    if queued:
        receiver.answer(delay=0.5)
        for number in range(5):
            sender.put(item(f"parent {number}"))
        time.sleep(0.1)
    counters.lost("sample_rate", "span", 5)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            empty = sender.stats.queued == 0 and counters.drain() == []
            sender.put(item("child"))
            code = 0 if sender.flush(5.0) and empty and sender.stats.delivered["transaction"] == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sender.put(item("after"))
    assert sender.flush(5.0)
    sender.close()
    expected = ["after", "before", "child", *([f"parent {number}" for number in range(5)] if queued else [])]
    assert sorted(names(receiver)) == expected
    assert receiver.connections == 2


SCRIPT = """
import sys, time
sys.path.insert(0, {root!r})
{before}
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.sentry.sender import Envelope, Ready, Sender, sentry_target
sender = Sender([sentry_target(Dsn.parse({dsn!r}))])
def put(name, urgent=False):
    payload = b'{{"name":"%b"}}' % name.encode()
    kind = b"event" if urgent else b"transaction"
    body = b'{{}}\\n{{"type":"%b","length":%d}}\\n%b\\n' % (kind, len(payload), payload)
    sender.put(Ready(Envelope(body, (("error" if urgent else "span", 1),))), urgent=urgent)
{after}
"""


def run(dsn: str, after: str, before: str = "", timeout: float = 30.0) -> tuple[float, str]:
    """Run a script with a sender in a fresh interpreter; seconds it took, and what it said."""
    script = SCRIPT.format(root=str(ROOT), dsn=dsn, before=textwrap.dedent(before), after=textwrap.dedent(after))
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started, done.stdout + done.stderr


def test_exit_with_a_black_hole(black_hole: int) -> None:
    """A host that never answers holds up the exit for two seconds; one line says what was lost."""
    took, said = run(
        f"http://{KEY}@127.0.0.1:{black_hole}/1",
        """
        import atexit
        def close():
            started = time.monotonic()
            sender.close()
            print(f"closed in {time.monotonic() - started:.2f}")
        atexit.register(close)
        for n in range(5): put(str(n), urgent=True)
        for n in range(5): put(str(n))
        """,
    )
    closed = float(said.split("closed in ")[1].split()[0])
    assert 1.5 < closed <= 2.1
    assert took < 6.0
    assert "5 errors, 5 spans not delivered" in said
    assert KEY not in said


def test_exit_delivers(receiver: Receiver) -> None:
    """Items put right before the end, and in an exit handler, are delivered by close in ``atexit``."""
    run(
        receiver.dsn,
        """
        import atexit
        atexit.register(sender.close)
        atexit.register(put, "in atexit")
        put("last words", urgent=True)
        """,
    )
    assert sorted(names(receiver)) == ["in atexit", "last words"]


def test_first_put_at_exit(receiver: Receiver) -> None:
    """The first item ever comes in an exit handler, where newer interpreters start no thread any more."""
    run(receiver.dsn, "import atexit; atexit.register(sender.close); atexit.register(put, 'only', True)")
    assert names(receiver) == ["only"]


def test_flush_in_a_signal_handler(receiver: Receiver) -> None:
    """A handler that flushes while the main thread is in put does not hang, and all is delivered."""
    _, said = run(
        receiver.dsn,
        """
        import signal
        fired = []
        def handler(*_):
            fired.append(sender.flush(5.0))
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        for n in range(400): put(str(n), urgent=n % 2 == 0)
        while len(fired) < 3: time.sleep(0.01)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(sender.flush(5.0), all(fired), sender.stats.queued)
        """,
    )
    assert said.splitlines()[-1] == "True True 0"
    assert len(names(receiver)) == len(set(names(receiver))) == 400


GEVENT_WORK = """
import gevent
def work(n):
    for m in range(20):
        put(f"{n}/{m}")
        gevent.sleep(0)
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.005)
ticker = gevent.spawn(tick)
gevent.joinall([gevent.spawn(work, n) for n in range(10)])
gevent.get_hub().loop.run_callback(put, "from the hub")
print(sender.flush(10.0))
gaps = [b - a for a, b in zip(ticks, ticks[1:])]
print("largest gap", max(gaps))
ticker.kill()
gevent.wait(timeout=5)
sender.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["patched first", "sender first", "thread first"])
def test_gevent(receiver: Receiver, order: str) -> None:
    """Under gevent, patched before or after our import or even after our thread's start, all is delivered."""
    pytest.importorskip("gevent")
    patch = "from gevent import monkey; monkey.patch_all()\n"
    early = {"patched first": "", "sender first": patch, "thread first": 'put("early")\n' + patch}[order]
    took, said = run(receiver.dsn, early + GEVENT_WORK, before=patch if order == "patched first" else "")
    expected = {f"{n}/{m}" for n in range(10) for m in range(20)} | {"from the hub"}
    assert set(names(receiver)) - {"early"} == expected
    assert len(names(receiver)) == len(set(names(receiver)))
    assert said.splitlines()[0] == "True", said
    assert "Warning" not in said
    assert took < 20


def test_gevent_fork(receiver: Receiver) -> None:
    """A forked gevent worker, in which copies of the parent's greenlets live on, sends nothing twice."""
    pytest.importorskip("gevent")
    receiver.answer(200)
    receiver.answer(delay=0.5)
    run(
        receiver.dsn,
        """
        import os, gevent
        put("before"); sender.flush(5.0)
        for n in range(3): put(f"parent {n}")
        gevent.sleep(0.1)
        if os.fork() == 0:
            put("child")
            ok = sender.flush(5.0)
            gevent.sleep(0.7)
            os._exit(0 if ok else 3)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        put("after")
        assert sender.flush(5.0)
        """,
        before="from gevent import monkey; monkey.patch_all()",
    )
    assert sorted(names(receiver)) == ["after", "before", "child", "parent 0", "parent 1", "parent 2"]
