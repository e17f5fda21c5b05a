"""The guide's code as it is written (imports aside), read back: from Bugsink, envelopes and Datadog's agent."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import pytest
import redis

from otel_sentry import settings
from otel_sentry.cli.business import items_of
from otel_sentry.cli.receiver import Receiver
from otel_sentry.demo.servers import free_port
from tests.support.bugsink import Bugsink
from tests.support.datadog_agent import SESSION, Agent
from tests.support.relay import assert_relay_ok
from tests.support.studio import BIN, LAUNCHER

pytestmark = [pytest.mark.services, pytest.mark.once]

APP = pathlib.Path(__file__).parent.parent / "apps" / "guide"
T = TypeVar("T")
_FENCE = re.compile(r"^## (.+?)\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Heading in the guide -> its code.
GUIDE: dict[str, str] = dict(_FENCE.findall((APP / "samples.txt").read_text()))
#: All that is changed of it.
_IMPORTS = re.compile(r"from lib\.sentry_(?:utils|monitoring) import")
TRACES = {name: f"{number:032x}" for number, name in enumerate(GUIDE, 0xA11CE)}


def code(name: str) -> str:
    return _IMPORTS.sub("from otel_sentry import", GUIDE[name])


def yours(name: str, own: str) -> str:
    """A sample with the reader's code in the place that the guide leaves for it."""
    made, number = re.subn(r"# Your [\w ]*here\n +pass", own, code(name))
    assert number == 1
    return made


def variables() -> dict[str, str]:
    """The guide's environment variables, without its comments."""
    lines = (line.partition("#")[0].strip() for line in GUIDE["Required Environment Variables"].splitlines())
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_environment_presets(environment: str) -> None:
    """The three blocks of settings are what each environment's name gives."""
    wanted: dict[str, Any] = {}
    exec(GUIDE[f"{environment.title()} Environment"], wanted)
    found = settings.load({"ENVIRONMENT": environment})
    assert {name: getattr(found, name) for name in wanted if name != "__builtins__"} == {
        name: value for name, value in wanted.items() if name != "__builtins__"
    }


@dataclass
class Guide:
    """What the run of all samples left behind, everywhere."""

    url: str
    release: str
    receiver: Receiver
    bugsink: Bugsink
    agent: Agent
    session: str
    log: pathlib.Path

    def call(self, path: str, body: str, **headers: str) -> int:
        """The status of a request of user 123."""
        request = urllib.request.Request(self.url + path, body.encode(), {"X-User": "123", **headers})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            return exc.code

    def sample(self, name: str, body: str | None = None, trace: str | None = None) -> None:
        """Run a sample in a request of a trace that Sentry keeps."""
        headers = {"sentry-trace": f"{trace or TRACES[name]}-{'b' * 16}-1"}
        assert self.call("/samples/", body or code(name), **headers) == 200, self.log.read_text()[-4000:]

    def transaction(self, name: str) -> dict[str, Any]:
        """The one transaction of a sample, which Relay takes as it is."""
        (found,) = [one for one in self.receiver.transactions if _trace_of(one)["trace_id"] == TRACES[name]]
        assert_relay_ok(found)
        return found

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """Sentry's items of one metric: value, unit and plain attributes."""
        return [
            {**item, "attributes": {key: one["value"] for key, one in item["attributes"].items()}}
            for item in items_of(self.receiver.items("trace_metric"))
            if item["name"] == name
        ]

    def points(self, name: str) -> list[dict[str, Any]]:
        """The same at Datadog's agent: the attributes of its data points."""
        found = [one for one in self.agent.metrics(self.session) if one["name"] == name]
        assert found, name
        return [point for one in found for kind in ("sum", "gauge", "histogram") for point in _points(one, kind)]

    def spans(self, name: str) -> list[dict[str, Any]]:
        """A sample's spans at Datadog's agent."""
        return [span for span in self.agent.spans(self.session) if span["trace_id"] == TRACES[name]]

    def event(self, headline: str, *, check: bool = True) -> dict[str, Any]:
        """The event that a Sentry-compatible server has stored; Relay takes it as we sent it, too."""

        def stored() -> list[dict[str, Any]]:
            of_ours = (one for one in self.bugsink.events() if one.get("release") == self.release)
            return [one for one in of_ours if headline in _headline(one)]

        (event,) = _eventually(stored, "an event in Bugsink")
        (sent,) = [one for one in self.receiver.events if one["event_id"] == event["event_id"]]
        if check:
            assert_relay_ok(sent)
        return event


def _points(metric: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [
        {one["key"]: next(iter(one["value"].values())) for one in point.get("attributes", ())}
        for point in metric.get(kind, {}).get("data_points", ())
    ]


def _trace_of(transaction: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = transaction["contexts"]["trace"]
    return found


def _headline(event: dict[str, Any]) -> str:
    values = (event.get("exception") or {}).get("values") or [{}]
    message = json.dumps(event.get("logentry") or event.get("message"))
    return f"{values[-1].get('type')}: {values[-1].get('value')} {message}"


def _eventually(look: Callable[[], T], what: str, timeout: float = 20.0) -> T:
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.1)
    return found


@contextmanager
def running(
    bugsink: Bugsink, agent: Agent, postgres_url: str, valkey_url: str, folder: pathlib.Path, name: str, **more: str
) -> Iterator[Guide]:
    """The guide's project under gunicorn, with the guide's variables; all it sends is here when the block has ended."""
    database = f"guide_{name}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{database}"')  # type: ignore[arg-type]
        connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[arg-type]
    store = re.sub(r"/\d+$", "/13", valkey_url)
    with redis.Redis.from_url(store) as client:
        client.flushdb()
    with Receiver() as receiver:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("SENTRY_", "OTEL_"))}
        key = bugsink.dsn.partition("//")[2].partition("@")[0]
        env |= {
            **variables(), "SENTRY_DSN": receiver.dsn, "DATABASE_URL": re.sub(r"/[^/]*$", f"/{database}", postgres_url),
            # A copy of each envelope goes to Bugsink. Alone it would ask for no transactions, and our sender obeys.
            "SENTRY_SPOTLIGHT": f"{bugsink.base_url}/api/1/envelope/?sentry_key={key}",
            "OTEL_SENTRY_STORE": store, "OTEL_SENTRY_LOGS": "1", "OTEL_SENTRY_METRIC_LABELS": "signup_source",
            "OTEL_TRACES_EXPORTER": "otel_sentry,otlp", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": agent.http_url, "OTEL_EXPORTER_OTLP_HEADERS": f"{SESSION}=guide-{name}",
            "OTEL_SENTRY_PRESET": "datadog", "OTEL_SENTRY_SHUTDOWN_TIMEOUT": "20", "SENTRY_PROFILES_SAMPLE_RATE": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(APP), os.environ.get("PYTHONPATH", "")])), **more,
        }  # fmt: skip
        program = "import django; django.setup(); from account.models import User; " + (
            "User.objects.create(id=123, username='ann', email='user@example.com')"
        )
        for command in (["manage.py", "migrate", "--run-syncdb", "-v", "0"], ["-c", program]):
            own = {**env, "DJANGO_SETTINGS_MODULE": "alpha.settings"}
            subprocess.run([sys.executable, *command], cwd=APP, env=own, check=True)
        bind = f"127.0.0.1:{free_port()}"
        log = folder / f"{name}.log"
        release = env["SENTRY_RELEASE"]
        guide = Guide(f"http://{bind}", release, receiver, bugsink, agent, f"guide-{name}", log)
        with log.open("wb") as out:
            process = subprocess.Popen(
                [LAUNCHER, str(BIN / "gunicorn"), "alpha.wsgi", "--bind", bind, "--workers", "1"],
                cwd=APP, env=env, stdout=out, stderr=out,
            )  # fmt: skip
        try:
            _eventually(lambda: "Listening at" in log.read_text() or process.poll() is not None, "gunicorn")
            assert process.poll() is None, log.read_text()[-4000:]
            yield guide
        finally:
            process.terminate()
            process.wait(40)
        assert receiver.faults == [] and bugsink.complaints() == [], log.read_text()[-4000:]


#: The samples that leave a place for the reader's own code, with such code in it.
FILLED = {
    "Basic Error Tracking, failing": yours("Basic Error Tracking", "raise ValueError('no such plan')"),
    "Performance Monitoring, slow": yours("Performance Monitoring", "import time\n    time.sleep(2.05)"),
}
TRACES |= {name: f"{number:032x}" for number, name in enumerate(FILLED, 0xF111ED)}


@pytest.fixture(scope="module")
def guide(
    bugsink_server: Bugsink, agent: Agent, postgres_url: str, valkey_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Guide]:  # fmt: skip
    """Each sample of the guide once, in a request of its own, in the guide's environment; the program has ended."""
    folder = tmp_path_factory.mktemp("guide")
    with running(bugsink_server, agent, postgres_url, valkey_url, folder, "samples") as one:
        for name, text in GUIDE.items():
            if "import " in text:
                one.sample(name, code(name))
        for name, text in FILLED.items():
            one.sample(name, text)
    yield one


def test_every_sample_runs(guide: Guide) -> None:
    """Each is one request that was answered; environment and release are those of the guide's variables, everywhere."""
    given = variables()
    for name in (*(name for name, text in GUIDE.items() if "import " in text), *FILLED):
        transaction = guide.transaction(name)
        assert _trace_of(transaction)["status"] == "ok"
        assert (transaction["environment"], transaction["release"]) == ("production", "v1.0.0"), given
        assert transaction["user"]["id"] == "123"
        (root,) = [span for span in guide.spans(name) if span["name"] == "POST samples/"]
        assert root["resource"]["deployment.environment"] == given["ENVIRONMENT"]
        assert root["resource"]["service.version"] == given["SENTRY_RELEASE"]
    assert len(guide.receiver.events) == 3, [_headline(event) for event in guide.receiver.events]
    everything = json.dumps([item.payload.decode() for one in guide.receiver.envelopes for item in one.items])
    assert "user@example.com" not in everything + json.dumps(guide.agent.spans(guide.session))


def test_basic_error_tracking(guide: Guide) -> None:
    """What the reader's code raises is an issue with operation, kind and user; without an exception there is none."""
    event = guide.event("no such plan")
    assert event["exception"]["values"][-1]["type"] == "ValueError"
    assert event["contexts"]["business_context"]["operation"] == "user_registration"
    assert event["tags"]["error_type"] == "validation"
    assert event["user"] == {"id": "123", "user_type": "customer"}
    assert event["fingerprint"] == ["{{ default }}", "user_registration", "validation"]
    assert event["contexts"]["trace"]["trace_id"] == TRACES["Basic Error Tracking, failing"]
    assert (event["environment"], event["release"]) == ("production", "v1.0.0")
    (counted,) = [one for one in guide.metrics("app.errors") if one["attributes"]["kind"] == "validation"]
    assert counted["trace_id"] == event["contexts"]["trace"]["trace_id"]


def test_configuration_verification(guide: Guide) -> None:
    """The snippet's issue arrives; its tag ``environment`` is kept as ``app.environment`` and overrides nothing."""
    event = guide.event("Test error for Sentry verification")
    assert event["contexts"]["custom"]["test"] == "sentry_verification"
    assert event["tags"]["app.environment"] == "test" and "environment" not in event["tags"]
    assert event["environment"] == "production"


def test_performance_monitoring(guide: Guide) -> None:
    """A span and the operation's own duration each time; past the threshold also the mark, the log and the counter."""
    for name in ("Performance Monitoring", "Performance Monitoring, slow"):
        is_slow = name.endswith("slow")
        (span,) = [one for one in guide.transaction(name)["spans"] if one["description"] == "post_creation"]
        assert span["data"]["business.operation"] == "post_creation"
        assert span["data"].get("slow_operation", False) is is_slow
        (same,) = [one for one in guide.spans(name) if one["name"] == "post_creation"]
        assert same["span_id"] == span["span_id"] and same["attributes"].get("slow_operation", False) is is_slow
    durations = guide.metrics("business.operation.duration")
    assert [one["attributes"]["operation"] for one in durations] == ["post_creation"] * 2
    assert [one["attributes"]["outcome"] for one in durations] == ["ok"] * 2
    assert [one["attributes"]["module"] for one in durations] == ["post"] * 2
    assert durations[0]["unit"] == "second" and durations[0]["value"] < 2 <= durations[1]["value"]
    assert guide.points("business.operation.duration")[0]["operation"] == "post_creation"
    assert [one["attributes"]["operation"] for one in guide.metrics("operation.slow")] == ["post_creation"]
    texts = [item["body"] for one in guide.receiver.items("log") for item in one["items"]]
    assert any(text.startswith("slow operation post_creation: 2") for text in texts)
    assert any(line["body"].startswith("slow operation post_creation") for line in guide.agent.logs(guide.session))


def test_user_journey_tracking(guide: Guide) -> None:
    """Two steps and a completed journey, in metrics and on the span; the user is named only at the start."""
    name = "User Journey Tracking"
    assert [(one["attributes"]["name"], one["attributes"]["step"]) for one in guide.metrics("journey.step")] == [
        ("user_registration", "email_validation"), ("user_registration", "profile_creation"),
    ]  # fmt: skip
    (end,) = guide.metrics("journey.completed")
    assert end["attributes"]["name"] == "user_registration" and end["attributes"]["outcome"] == "completed"
    assert end["trace_id"] == TRACES[name] and len(guide.metrics("journey.duration")) == 1
    data = _trace_of(guide.transaction(name))["data"]
    assert data["journey.name"] == "user_registration" and data["journey.step"] == "profile_creation"
    (root,) = [span for span in guide.spans(name) if span["name"] == "POST samples/"]
    assert root["attributes"]["journey.id"] == data["journey.id"]
    assert guide.points("journey.completed")[0]["outcome"] == "completed"


def test_business_metrics_tracking(guide: Guide) -> None:
    """Funnel and feature: counted, their numbers distributed, distinct users gauged; nobody's id is anywhere."""
    trace_id = TRACES["Business Metrics Tracking"]
    (step,) = guide.metrics("funnel.step")
    assert step["attributes"]["funnel"] == "user_onboarding" and step["attributes"]["step"] == "profile_completed"
    assert step["attributes"]["signup_source"] == "google" and step["trace_id"] == trace_id
    (used,) = guide.metrics("feature.used")
    assert used["attributes"]["feature"] == "post_creator" and used["attributes"]["usage"] == "video_created"
    numbers = {one["attributes"]["field"]: one["value"] for one in guide.metrics("feature.value")}
    assert numbers == {"file_size": 1024, "duration": 30}
    for name in ("funnel.users", "feature.users"):
        (users,) = guide.metrics(name)
        assert users["value"] == 1 and "123" not in json.dumps(users["attributes"])
        assert guide.points(name)
    assert guide.points("funnel.step")[0]["signup_source"] == "google"
    assert guide.points("feature.used")[0]["usage"] == "video_created"


def test_custom_alerts(guide: Guide) -> None:
    """The alert is an issue at its level, grouped by its type, with its numbers, in the trace of its request."""
    event = guide.event("Post creation errors exceed threshold")
    assert event["level"] == "error" and event["fingerprint"] == ["business-alert", "high_error_rate"]
    alert = event["contexts"]["business_alert"]
    assert (alert["error_rate"], alert["threshold"], alert["severity"]) == (15.5, 10.0, "error")
    assert event["contexts"]["trace"]["trace_id"] == TRACES["Custom Alerts"]
    (counted,) = guide.metrics("business.alert")
    assert counted["attributes"]["type"] == "high_error_rate"
    assert guide.points("business.alert")[0]["type"] == "high_error_rate"


def test_error_context_and_breadcrumb_trail(
    bugsink_server: Bugsink, agent: Agent, postgres_url: str, valkey_url: str, tmp_path: pathlib.Path
) -> None:
    """A post whose upload fails: the guide's error context block (PII on, for the e-mail) and its five breadcrumbs."""
    wanted = json.loads(GUIDE["Error Context Information"])
    own = {"SENTRY_SEND_DEFAULT_PII": "1", "OTEL_SENTRY_TRUSTED_PROXIES": "1", "SENTRY_RELEASE": "guide@upload"}
    with running(bugsink_server, agent, postgres_url, valkey_url, tmp_path, "upload", **own) as guide:
        details = wanted["request_details"]
        headers = {"User-Agent": details["user_agent"], "X-Forwarded-For": details["client_ip"]}
        body = json.dumps({"title": "Teaser", "file_type": "video"})
        assert guide.call(details["path"], body, **headers, **{"Content-Type": "application/json"}) == 500
    event = guide.event("UploadFailed")
    assert wanted["user"].items() <= event["user"].items()
    assert event["contexts"]["request_details"].items() >= details.items()
    assert event["contexts"]["business_context"].items() >= wanted["business_context"].items()
    performance = event["contexts"]["performance"]
    assert performance.keys() >= wanted["performance"].keys() and performance["slow_operation"] is False
    assert 0 < performance["response_time_ms"] < 2000
    trail = [(crumb["category"], crumb["message"]) for crumb in event["breadcrumbs"]["values"]]
    five = (
        ("request", "Request started: POST /api/posts/"), ("auth", "Authentication check: signed in"),
        ("validation", "Business validation: PostSerializer"), ("query", "INSERT INTO"),
        ("error", "Error occurred: UploadFailed"),
    )  # fmt: skip
    places = [
        [place for place, (kind, text) in enumerate(trail) if kind == category and text.startswith(message)]
        for category, message in five
    ]
    assert all(len(found) == 1 for found in places) and sorted(places) == places, trail
    assert places[0] == [0] and places[-1] == [len(trail) - 1], trail
