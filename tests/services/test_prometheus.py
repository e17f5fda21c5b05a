"""The demo's traffic in a real Prometheus, by a real Collector: every query of ours has a series, a rule fires."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from otel_sentry.business import catalogue
from otel_sentry.business.render import promql
from otel_sentry.cli.receiver import Receiver
from otel_sentry.demo.servers import free_port, postgres
from otel_sentry.demo.traffic import STEPS
from tests.support import collector
from tests.support.studio import studio
from tests.support.tools import end

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.once]

WEB = ["gunicorn", "studio.wsgi", "--bind", "{bind}", "-k", "gthread", "--threads", "4", "--workers", "2"]
_CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - {{job_name: otelcol, honor_labels: true, static_configs: [{{targets: ["{target}"]}}]}}
"""


@contextmanager
def prometheus(target: str) -> Iterator[str]:
    """A real Prometheus that scrapes *target* each second, with our rules; its address."""
    if shutil.which("prometheus") is None:
        pytest.skip("no Prometheus: Debian's package prometheus has it")
    url = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="prometheus-test-") as folder:
        config = pathlib.Path(folder, "prometheus.yml")
        rules = collector.CONFIGS / "generated" / "prometheus-rules.yaml"
        config.write_text(_CONFIG.format(rules=json.dumps(str(rules)), target=target))
        log = pathlib.Path(folder, "log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address={url}"], stdout=out, stderr=out,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while True:
                with suppress(urllib.error.URLError, OSError):
                    urllib.request.urlopen(f"http://{url}/-/ready", timeout=1).close()
                    break
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield f"http://{url}"
        finally:
            end(process, timeout=20)


def _ask(url: str, path: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return json.load(answer)["data"]


def _missing(url: str) -> list[str]:
    """The queries of the dashboard and of the rules that have no series."""
    wanted = dict.fromkeys(promql.expression(query) for query in catalogue.queries())
    return [query for query in wanted if not _ask(url, "query", query=query)["result"]]


def _firing(url: str) -> set[str]:
    alerts = _ask(url, "alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def test_every_query_has_a_series_and_a_rule_fires(receiver: Receiver, valkey_url: str) -> None:
    """The demo's traffic, and then a database that is gone: all queries answer, and `database_connection` fires."""
    with collector.collector("local.yaml") as running, prometheus(running.prometheus) as url:
        env = {
            "OTEL_TRACES_EXPORTER": "otel_sentry,otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_SENTRY_SLOW_REQUEST_MS": "400",
            "OTEL_SENTRY_VERY_SLOW_REQUEST_MS": "500",
            "OTEL_SENTRY_SECURITY_PATTERNS": "not_found_burst=5/300",
            "OTEL_EXPORTER_OTLP_ENDPOINT": running.http,
        }
        worker = ["--pool=prefork", "-c", "1"]
        with (
            postgres() as database,
            studio(receiver, database.url, valkey_url, web=WEB, worker=worker, env=env) as app,
        ):
            for step in STEPS:
                assert step.act(app.visitor) == step.status, step.title
            fired = _firing(url)
            assert "database_connection" not in fired
            os.kill(database.pid, signal.SIGQUIT)  # at once: no connection is served to its end
            for _ in range(8):
                app.visitor.get("/posts/1/")
                app.visitor.get("/nowhere/")
            app.visitor.post("/accounts/login/", username="ada", password="a-long-password")
            deadline = time.monotonic() + 30
            while (missing := _missing(url)) and time.monotonic() < deadline:
                time.sleep(1)
            assert not missing, "\n".join(missing)
            while "database_connection" not in (fired := _firing(url)) and time.monotonic() < deadline:
                time.sleep(1)
            assert "database_connection" in fired
            spans: list[Any] = []
            while not spans and time.monotonic() < deadline:  # they leave every few seconds
                spans = _ask(url, "query", query="traces_span_metrics_calls_total")["result"]
                time.sleep(0.5)
            assert {one["metric"]["service_name"] for one in spans} >= {"studio"}
