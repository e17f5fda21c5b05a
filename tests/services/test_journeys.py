"""A journey over requests and tasks: gunicorn, two Celery workers and a Valkey that is restarted in between."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from typing import Any, TypeVar

import pytest
import redis

from otel_sentry.business import journey_store
from otel_sentry.business.store import Unavailable
from otel_sentry.cli.receiver import Receiver
from otel_sentry.demo.servers import _valkey_binary, free_port
from otel_sentry_redis.store import RedisStore

pytestmark = [pytest.mark.services, pytest.mark.once]
APP = pathlib.Path(__file__).parent.parent / "apps" / "shop"
BIN = pathlib.Path(sys.executable).parent
T = TypeVar("T")


class DurableValkey:
    """A Valkey that writes down what it holds, and can be stopped and started again."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(_valkey_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _eventually(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


def _eventually(look: Callable[[], T], timeout: float = 30.0) -> T:
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, look
        time.sleep(0.02)


class Shop:
    """The running shop, and a visitor with a cookie jar."""

    def __init__(self, receiver: Receiver, valkey: DurableValkey, folder: pathlib.Path) -> None:
        self.folder = folder
        self.valkey = valkey
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "SENTRY_"))},
            "PYTHONPATH": str(APP),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "SHOP_REDIS": valkey.url,
            "SENTRY_DSN": receiver.dsn,
            "SENTRY_TRACES_SAMPLE_RATE": "1",
        }

    def run(self, *command: str) -> None:
        log = (self.folder / f"log{len(self._processes)}").open("wb")
        command = (str(BIN / "opentelemetry-instrument"), *command)
        self._processes.append(
            subprocess.Popen(command, env=self.env, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)
        )

    def web(self) -> None:
        self.run("gunicorn", "shop:application", "--workers", "2", "--bind", f"127.0.0.1:{self.port}", "-t", "60")
        _eventually(lambda: b"Listening at" in (self.folder / "log0").read_bytes())

    def worker(self, queue: str) -> None:
        self.run("celery", "-A", "shop", "worker", "-Q", queue, "-c", "1", "-n", f"{queue}@%h", "--without-mingle")

    def get(self, path: str) -> str:
        with self._visitor.open(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def journey(self) -> dict[str, Any] | None:
        """The one journey in the store, read as another process reads it."""
        store = RedisStore(self.valkey.url)
        with contextlib.suppress(Unavailable):
            names = store.names("journey:", 10)
            assert len(names) <= 1, names
            return store.load(names[0]) if names else None
        return None

    def has(self, step: str) -> bool:
        journey = self.journey()
        return journey is not None and step in [one["step"] for one in journey["steps"]]

    def queued(self, queue: str) -> int:
        with redis.Redis.from_url(self.valkey.url) as client:
            return int(client.llen(queue))

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)

    def log(self) -> str:
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in sorted(self.folder.glob("log*")))


@pytest.fixture
def shop(receiver: Receiver, tmp_path: pathlib.Path) -> Iterator[Shop]:
    """gunicorn with two processes; the workers are started by the test."""
    valkey = DurableValkey(tmp_path)
    valkey.start()
    one = Shop(receiver, valkey, tmp_path)
    try:
        one.web()
        yield one
    finally:
        one.stop()
        valkey.stop()
        print(one.log())


def test_one_journey_over_requests_tasks_and_a_restart_of_the_store(shop: Shop, receiver: Receiver) -> None:
    """Begun in a request, continued by two workers, ended in another request: one journey, with right durations, though
    Valkey was away for a while and a step was made meanwhile; scrubbed, measured once, and joined by links."""
    before = time.time()
    shop.get("begin?user=7")
    shop.worker("pay")
    _eventually(lambda: shop.has("paid") and shop.queued("ship"))
    shop.valkey.stop()
    away = time.time()
    shop.get("wait?user=7")  # while the store is away
    asked = time.time()
    time.sleep(1.0)
    shop.valkey.start()
    _eventually(lambda: shop.has("asked"))
    shop.worker("ship")
    _eventually(lambda: shop.has("shipped"))
    shop.get("end")
    after = time.time()
    journey = _eventually(lambda: (one := shop.journey()) and one["outcome"] and one)
    found = journey_store.summary(journey)
    assert (found["name"], found["outcome"], found["implicit"]) == ("purchase", "completed", False)
    assert found["steps"] == ["paid", "asked", "shipped"]
    assert before <= journey["started"] <= journey["ended"] <= after
    assert away <= journey["steps"][1]["at"] <= asked
    assert sum(found["durations_s"]) == pytest.approx(journey["steps"][-1]["at"] - journey["started"])
    assert found["durations_s"][2] > 1.0
    assert "4111" not in json.dumps(journey)
    assert '"7"' not in json.dumps(journey)  # the user is a hash
    _measured_once(receiver, found)
    _joined(receiver, journey)


def _measured_once(receiver: Receiver, found: dict[str, Any]) -> None:
    def metrics() -> dict[str, list[dict[str, Any]]]:
        by_name: dict[str, list[dict[str, Any]]] = {}
        for batch in receiver.items("trace_metric"):
            for one in batch["items"]:
                by_name.setdefault(one["name"], []).append(one)
        return by_name

    _eventually(lambda: "journey.duration" in metrics() and len(metrics().get("journey.step", ())) == 3)
    completed, duration = metrics()["journey.completed"], metrics()["journey.duration"]
    assert [one["attributes"]["outcome"]["value"] for one in completed] == ["completed"]
    assert [one["value"] for one in duration] == [pytest.approx(found["duration_s"])]
    assert {one["attributes"]["step"]["value"] for one in metrics()["journey.step"]} == {"paid", "asked", "shipped"}


def _joined(receiver: Receiver, journey: dict[str, Any]) -> None:
    """The later requests are other traces; each links to one of the journey's earlier traces."""

    def transactions() -> dict[str, dict[str, Any]]:
        return {one["transaction"]: one["contexts"]["trace"] for one in receiver.transactions}

    wanted = {"GET /begin", "GET /wait", "GET /end"}
    _eventually(lambda: {name.rstrip("/") for name in transactions()} >= wanted)
    roots = {name.rstrip("/"): trace for name, trace in transactions().items()}
    first = roots["GET /begin"]["trace_id"]
    paid = f"{journey['steps'][0]['place'][0]:032x}"
    assert paid == first
    for name in ("GET /wait", "GET /end"):
        assert roots[name]["trace_id"] != first
    assert [one["trace_id"] for one in roots["GET /end"]["links"]] == [first]
    assert roots["GET /end"]["data"]["journey.id"] == journey["id"]
