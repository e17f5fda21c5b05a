"""Check-ins of periodic tasks, with beat in a process of its own, a real worker and a real broker."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import json
import os
import pathlib
import re
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar

from otel_sentry import crons
from otel_sentry.cli.receiver import Receiver
from tests.support.jobs import APP, launched

ROOT = pathlib.Path(__file__).parents[2]
BEATS = {
    "celery": "periodic:Early",
    "redbeat": "redbeat.RedBeatScheduler",
}
#: In the requirement set `oldest` only: no release of it takes Django 6.1 yet.
HAS_DJANGO_BEAT = importlib.util.find_spec("django_celery_beat") is not None
if HAS_DJANGO_BEAT:
    BEATS["django"] = "django_celery_beat.schedulers:DatabaseScheduler"
#: Check-ins that each entry makes.
WANTED = {"nightly-add": 2, "hourly-fail": 2, "retry": 3, "ignored": 2, "by-redbeat": 2}
if HAS_DJANGO_BEAT:
    WANTED["by-django"] = 2

PUBLISH = "queue.publish"


class Ran(NamedTuple):
    """What three beats and one worker sent, and what each beat wrote."""

    receiver: Receiver
    logs: dict[str, str]

    def of(self, slug: str) -> list[dict[str, Any]]:
        return [one for one in check_ins(self.receiver) if one["monitor_slug"] == slug]


def check_ins(receiver: Receiver) -> list[dict[str, Any]]:
    return receiver.items("check_in")


@pytest.fixture(scope="module")
def ran(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """All at once, each beat for its one round."""
    folder = tmp_path_factory.mktemp("crons")
    with Receiver() as receiver, contextlib.ExitStack() as stack:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SENTRY_", "OTEL_"))},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "instrumentation"), str(APP)]),
            "JOBS_BROKER": valkey_url, "JOBS_BACKEND": valkey_url, "JOBS_QUEUE": f"crons-{uuid.uuid4().hex[:8]}",
            "JOBS_DATABASE": str(folder / "db.sqlite3"),
            "SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "development", "SENTRY_RELEASE": "jobs@1",
        }  # fmt: skip
        for name, scheduler in BEATS.items():
            command = ["-A", "periodic", "beat", "-S", scheduler, "--loglevel=INFO", "--pidfile="]
            stack.enter_context(launched(command, env | {"JOBS_BEAT": name}, folder / name))
        worker = ["-A", "jobs", "worker", "--pool=threads", "--concurrency=2", "--without-gossip", "--without-mingle"]
        stack.enter_context(launched(worker, env, folder / "worker"))

        def complete(one: Receiver) -> bool:
            slugs = [item["monitor_slug"] for item in check_ins(one)]
            return all(slugs.count(slug) >= count for slug, count in WANTED.items()) and len(one.events) >= 1

        with contextlib.suppress(TimeoutError):
            receiver.wait_for(complete, timeout=50)
        yield Ran(receiver, {name: (folder / name).read_text() for name in [*BEATS, "worker"]})


@pytest.mark.services
def test_a_run_is_two_check_ins(ran: Ran) -> None:
    """In progress, then ok: one id, the entry's schedule in the app's time zone, in the trace of the task."""
    begin, end = ran.of("nightly-add")
    config = {"schedule": {"type": "crontab", "value": "*/5 * * * 1,2,3,4,5"}, "timezone": "Europe/Vienna"}
    assert (begin["status"], end["status"]) == ("in_progress", "ok")
    assert begin["check_in_id"] == end["check_in_id"]
    assert begin["monitor_config"] == end["monitor_config"] == config
    assert 0 <= end["duration"] < 10
    assert "duration" not in begin
    traces = {item["contexts"]["trace"]["trace_id"] for item in ran.receiver.transactions}
    assert begin["contexts"]["trace"] == end["contexts"]["trace"]
    assert begin["contexts"]["trace"]["trace_id"] in traces
    for one in check_ins(ran.receiver):
        assert_documented(one)


@pytest.mark.services
def test_outcomes(ran: Ran) -> None:
    """A failure is an error, in its event's trace; a task tried again is over when its last try is; Ignore is ok."""
    begin, end = ran.of("hourly-fail")
    assert end["status"] == "error"
    assert end["monitor_config"] == {"schedule": {"type": "interval", "value": 1, "unit": "hour"}}
    (event,) = ran.receiver.events
    assert event["contexts"]["trace"]["trace_id"] == begin["contexts"]["trace"]["trace_id"]
    retried = ran.of("retry")
    assert [one["status"] for one in retried] == ["in_progress", "in_progress", "ok"]
    assert len({one["check_in_id"] for one in retried}) == 1
    assert "duration" not in retried[-1]
    assert retried[0]["monitor_config"]["schedule"] == {"type": "interval", "value": 90, "unit": "minute"}
    assert [one["status"] for one in ran.of("ignored")] == ["in_progress", "ok"]


@pytest.mark.services
def test_redbeat(ran: Ran) -> None:
    """Entries of redbeat."""
    assert [one["status"] for one in ran.of("by-redbeat")] == ["in_progress", "ok"]
    assert ran.of("by-redbeat")[0]["monitor_config"] == {"schedule": {"type": "interval", "value": 2, "unit": "hour"}}


@pytest.mark.services
@pytest.mark.skipif(not HAS_DJANGO_BEAT, reason="django-celery-beat is not installed: it takes no Django 6.1 yet")
def test_django_celery_beat(ran: Ran) -> None:
    """Entries of django-celery-beat, in the time zone of their row."""
    by_django = ran.of("by-django")[:2]
    assert [one["status"] for one in by_django] == ["in_progress", "ok"]
    assert by_django[0]["monitor_config"] == {
        "schedule": {"type": "crontab", "value": "* * * * *"}, "timezone": "Asia/Tokyo",
    }  # fmt: skip


@pytest.mark.services
def test_what_has_no_check_ins(ran: Ran) -> None:
    """Sun and seconds are refused with one line each; Celery's own entries are left out without one."""
    lines = re.findall(r"otel-sentry: no check-ins for the beat entry '(.*?)': (.*)", ran.logs["celery"])
    assert sorted(lines) == [
        ("often", "every 30 s is no whole number of minutes"),
        ("sunset", "Sentry has no schedule of type Sunset"),
    ]
    assert {one["monitor_slug"] for one in check_ins(ran.receiver)} == set(WANTED)
    assert ran.logs["celery"].count("Sending due task") >= 7


@pytest.mark.services
def test_each_tick_is_a_trace_of_its_own(ran: Ran) -> None:
    """What beat publishes is one trace with the task it starts; no two ticks share one."""

    def roots(op: str) -> list[dict[str, Any]]:
        return [item for item in ran.receiver.transactions if item["contexts"]["trace"]["op"] == op]

    def publishers() -> set[str]:
        spans = {span["span_id"] for run in roots("queue.process") for span in run["spans"] if span["op"] == PUBLISH}
        return spans | {item["contexts"]["trace"]["span_id"] for item in roots(PUBLISH)}

    def parents() -> set[str]:
        return {run["contexts"]["trace"]["parent_span_id"] for run in roots("queue.process")}

    ticks = 8 + HAS_DJANGO_BEAT  # that one has one entry
    with contextlib.suppress(TimeoutError):  # check-ins leave first, transactions follow
        ran.receiver.wait_for(lambda _: len(roots(PUBLISH)) >= ticks and parents() == publishers(), timeout=20)
    traces = [item["contexts"]["trace"]["trace_id"] for item in roots(PUBLISH)]
    assert len(traces) == len(set(traces)) >= ticks
    assert parents() == publishers()


def test_delivery(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a trace and a schedule it is a check-in too; a rate limit on monitors holds check-ins alone, counted."""
    from otel_sentry import bootstrap, counters, runtime, settings

    monkeypatch.setattr(runtime, "_current", None)
    built = bootstrap.build(settings.load({}, dsn=receiver.dsn, environment="development"))
    assert built is not None and built.sender is not None
    receiver.answer(200, {"X-Sentry-Rate-Limits": "60:monitor:key"})
    crons.check_in("nightly", crons.OK, "a" * 32, duration_s=1.5)
    assert built.sender.flush(5)
    crons.check_in("nightly", crons.ERROR, "b" * 32)
    assert built.sender.flush(5)
    (one,) = check_ins(receiver)
    one.pop("release", None)
    assert one == {
        "check_in_id": "a" * 32, "monitor_slug": "nightly", "status": "ok", "duration": 1.5,
        "environment": "development",
    }  # fmt: skip
    assert counters.snapshot()["ratelimit_backoff", "monitor"] == 1
    assert not receiver.faults
    built.sender.close(1)


def test_off_without_sentry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is configured, a check-in is nothing."""
    from otel_sentry import runtime

    monkeypatch.setattr(runtime, "_current", None)
    crons.check_in("nightly", crons.OK, "a" * 32)


def test_beat_itself_is_quiet(app: Celery) -> None:
    """What beat asks its schedule's store is no span; what it publishes is, as the root of a trace."""
    from celery import signals
    from celery.beat import Scheduler, Service

    from otel_sentry.trace.propagator import is_suppressed
    from otel_sentry_celery import crons as beat

    seen: list[tuple[str, bool]] = []

    class Store(Scheduler):
        def setup_schedule(self) -> None:
            seen.append(("setup", is_suppressed()))
            self.update_from_dict({"one": {"task": "one", "schedule": schedule(0)}})

        def is_due(self, entry: Any) -> Any:
            seen.append(("is_due", is_suppressed()))
            return super().is_due(entry)

        def sync(self) -> None:
            seen.append(("sync", is_suppressed()))

    def see(**kwargs: Any) -> None:
        seen.append(("publish", is_suppressed()))

    service = Service(app, scheduler_cls=Store)
    signals.before_task_publish.connect(see)
    beat.install()
    try:
        signals.beat_init.send(sender=service)
        service.scheduler.tick()
    finally:
        beat.uninstall()
        signals.before_task_publish.disconnect(see)
    assert seen == [("setup", True), ("is_due", True), ("publish", False), ("sync", True)]
    assert not hasattr(Scheduler.apply_async, "__wrapped__")


def assert_documented(check_in: dict[str, Any]) -> None:
    """The fields of Sentry's developer docs ("Check-Ins"); Relay's Python library has no check of these."""
    assert re.fullmatch(r"[0-9a-f]{32}", check_in["check_in_id"])
    assert re.fullmatch(r"[a-z0-9_-]{1,50}", check_in["monitor_slug"])
    assert check_in["status"] in ("in_progress", "ok", "error")
    assert (check_in["environment"], check_in["release"]) == ("development", "jobs@1")
    assert re.fullmatch(r"[0-9a-f]{32}", check_in["contexts"]["trace"]["trace_id"])
    assert set(check_in) <= {
        "check_in_id", "monitor_slug", "status", "environment", "release", "duration", "monitor_config", "contexts",
    }  # fmt: skip
    kind = check_in["monitor_config"]["schedule"]
    if kind["type"] == "interval":
        assert kind["unit"] in ("minute", "hour", "day", "week", "month", "year") and type(kind["value"]) is int
    else:
        assert len(kind["value"].split()) == 5
        ZoneInfo(check_in["monitor_config"]["timezone"])


@pytest.fixture(scope="module")
def app() -> Celery:
    return Celery("crons", broker="memory://", set_as_current=False)


@pytest.mark.parametrize(
    ("when", "config"),
    [
        (crontab(), "* * * * *"),
        (crontab(0, [3, 1], day_of_month="1,15"), "0 1,3 1,15 * *"),
        (crontab(5, "8-18/2", day_of_week="sunday", month_of_year=[3, 1, 2]), "5 8-18/2 * 1,2,3 0"),
        (crontab(0, 0, day_of_week="5-1"), "0 0 * * 0,1,5,6"),
        (crontab(0, 0, day_of_week="*/2", day_of_month="1-7"), "0 0 1-7 * */2"),
        (schedule(60), {"type": "interval", "value": 1, "unit": "minute"}),
        (schedule(datetime.timedelta(days=14)), {"type": "interval", "value": 2, "unit": "week"}),
    ],
)
def test_schedules(app: Celery, when: Any, config: Any) -> None:
    """Celery's schedules as Sentry writes them: words and lists as numbers, the largest unit that fits."""
    from otel_sentry_celery.crons import monitor_config

    when.app = app
    found = monitor_config(when, app)
    if isinstance(config, str):
        assert found == {"schedule": {"type": "crontab", "value": config}, "timezone": "UTC"}
    else:
        assert found == {"schedule": config}
    json.dumps(found)


@pytest.mark.parametrize(
    ("when", "why"),
    [
        (schedule(90), "every 90 s is no whole number of minutes"),
        (schedule(0.5), "every 0.5 s is no whole number of minutes"),
        (object.__new__(solar), "no schedule of type solar"),
        (crontab(0, 0, day_of_month="1-7", day_of_week="mon"), "Celery means days"),
    ],
)
def test_schedules_that_sentry_can_not_have(app: Celery, when: Any, why: str) -> None:
    """They are refused with the reason; a wrong schedule would raise false alarms."""
    from otel_sentry_celery.crons import monitor_config

    when.app = app
    with pytest.raises(ValueError, match=why):
        monitor_config(when, app)


def test_slugs() -> None:
    """As Sentry makes them of a name, so that monitors made by sentry-python go on; long names keep apart."""
    assert crons.slug_of("send.daily: Übersicht (EU)") == "senddaily-ubersicht-eu"
    assert crons.slug_of("nightly_run") == "nightly_run"
    long = ["a very long name of a task that nobody would ever give it " + end for end in ("one", "two")]
    assert len({crons.slug_of(name) for name in long}) == 2
    assert all(len(crons.slug_of(name)) <= 50 for name in long)
    assert re.fullmatch(r"[0-9a-f]{8}", crons.slug_of("夜間"))


def test_settings_leave_entries_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_SENTRY_CRONS=0` turns all off, patterns some; the default leaves Celery's own out."""
    from otel_sentry import runtime, settings
    from otel_sentry.trace import dsc

    monkeypatch.setattr(runtime, "_current", None)
    for env, name, out in [
        ({}, "celery.backend_cleanup", True), ({}, "mine", False), ({"OTEL_SENTRY_CRONS": "0"}, "mine", True),
        ({"OTEL_SENTRY_CRONS_EXCLUDE": "^mi,x"}, "mine", True),
    ]:  # fmt: skip
        monkeypatch.setattr(dsc, "_loaded", settings.load(env))
        assert crons.is_excluded(name) is out
