"""A real OpenTelemetry Collector and a real Kafka, where they are there; else the reason why a test is skipped."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping

import pytest

from otel_sentry.demo.servers import free_port
from tests.support.tools import end

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "collector-config"
#: Of each topic of a test's Kafka.
PARTITIONS = 8
_KAFKA = ROOT / ".cache" / "kafka-4.1.0"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.1.0</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>4.1.0</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
<version>2.24.3</version></dependency>
</dependencies></project>"""
_KAFKA_SETTINGS = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/log
num.partitions={partitions}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def binary() -> str:
    """The Collector: `OTELCOL`, what ``make collector`` built, or ``otelcol`` on PATH. Skips the test without one."""
    for found in (os.environ.get("OTELCOL"), str(ROOT / ".cache" / "otelcol"), shutil.which("otelcol")):
        if found and os.access(found, os.X_OK):
            return found
    pytest.skip("no OpenTelemetry Collector: make collector (needs Go), or set OTELCOL")


class Collector:
    """A Collector with one of the files of ``collector-config/``; it can be stopped and started again."""

    def __init__(self, config: pathlib.Path, folder: pathlib.Path, env: Mapping[str, str]) -> None:
        ports = {name: free_port() for name in ("grpc", "http", "health", "telemetry", "prometheus")}
        self.http = f"http://127.0.0.1:{ports['http']}"
        self.prometheus = f"127.0.0.1:{ports['prometheus']}"
        self.telemetry = f"http://127.0.0.1:{ports['telemetry']}/metrics"
        self._health = f"http://127.0.0.1:{ports['health']}/"
        self._config = config
        self._folder = folder
        self.log = folder / "otelcol.log"
        self._env = {
            **os.environ,
            "OTELCOL_GRPC": f"127.0.0.1:{ports['grpc']}",
            "OTELCOL_HTTP": f"127.0.0.1:{ports['http']}",
            "OTELCOL_HEALTH": f"127.0.0.1:{ports['health']}",
            "OTELCOL_TELEMETRY_PORT": str(ports["telemetry"]),
            "OTELCOL_PROMETHEUS": self.prometheus,
            "OTELCOL_QUEUE_DIR": str(folder / "queue"),
            "OTELCOL_FILE": str(folder / "otelcol.json"),
            "OTELCOL_DECISION_WAIT": "2s",
            "OTELCOL_KEEP_PERCENT": "100",
            "OTELCOL_FLUSH": "1s",
            **env,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is healthy."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [binary(), "--config", str(self._config)], cwd=self._folder, env=self._env, stdout=out, stderr=out
            )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(self._health, timeout=1).close()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the Collector did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it: SIGTERM in an orderly way, SIGKILL at once."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None


@contextlib.contextmanager
def collector(name: str, **env: str) -> Iterator[Collector]:
    """A running Collector with ``collector-config/<name>`` and *env* on top of the test's own ports."""
    with tempfile.TemporaryDirectory(prefix="otelcol-test-") as folder:
        running = Collector(CONFIGS / name, pathlib.Path(folder), env)
        try:
            running.start()
            yield running
        finally:
            running.stop()


class Kafka:
    """A broker at *address* that keeps its log in *folder*."""

    def __init__(self, address: str, folder: pathlib.Path) -> None:
        self.address = address
        self.folder = folder

    def create(self, *topics: str) -> None:
        """Make topics. Gateways that find none get all partitions of a topic that appears later, then rebalance."""
        command = ["java", "-cp", f"{_KAFKA}/*", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server",
                   self.address, "--create", "--partitions", str(PARTITIONS)]  # fmt: skip
        for topic in topics:
            subprocess.run([*command, "--topic", topic], check=True, capture_output=True)


@contextlib.contextmanager
def kafka() -> Iterator[Kafka]:
    """One Kafka broker (KRaft) from Maven Central's jars. Skips without Java or Maven."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"no Kafka: {tool} is not here")
    _fetch_kafka()
    port, controller = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="kafka-test-") as folder:
        settings = pathlib.Path(folder, "server.properties")
        settings.write_text(
            _KAFKA_SETTINGS.format(port=port, controller=controller, folder=folder, partitions=PARTITIONS)
        )
        java = ["java", "-Xmx512m", "-cp", f"{_KAFKA}/*"]
        storage = ["kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(settings)]
        subprocess.run([*java, *storage], check=True, capture_output=True)
        log = pathlib.Path(folder, "kafka.log")
        with log.open("wb") as out:
            process = subprocess.Popen([*java, "kafka.Kafka", str(settings)], stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + 60
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"Kafka did not start:\n{log.read_text(errors='replace')[-4000:]}")
                time.sleep(0.2)
            yield Kafka(f"127.0.0.1:{port}", pathlib.Path(folder, "log"))
        finally:
            end(process, timeout=20)


def _fetch_kafka() -> None:
    if (_KAFKA / ".done").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "pom.xml").write_text(_POM)
        done = subprocess.run(
            ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={_KAFKA}"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no Kafka: its jars can't be had here ({done.stdout.strip()[-200:]})")
    (_KAFKA / ".done").touch()
