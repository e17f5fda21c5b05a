"""The same application with periodic tasks, all of them due as soon as beat starts."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from celery.beat import Scheduler
from celery.schedules import BaseSchedule, crontab, schedstate, schedule, solar
from jobs import app

app.conf.timezone = "Europe/Vienna"
app.conf.redbeat_redis_url = os.environ["JOBS_BROKER"]
app.conf.redbeat_key_prefix = app.conf.task_default_queue + ":"
app.conf.redbeat_lock_key = None


class Sunset(solar):
    """Without the library that knows when the sun sets: now."""

    def __init__(self) -> None:
        BaseSchedule.__init__(self)
        self.event, self.lat, self.lon = "sunset", 48.2, 16.4

    def is_due(self, last_run_at: Any) -> Any:
        return schedstate(True, 3600.0)


SCHEDULES = {
    "Nightly: add": ("jobs.add", crontab(minute="*/5", day_of_week="mon-fri"), (1, 2)),
    "hourly fail": ("jobs.fail", schedule(3600), ()),
    "retry": ("jobs.fail_once", schedule(90 * 60), ()),
    "ignored": ("jobs.ignore", schedule(86400), ()),
    "often": ("jobs.eager", schedule(30), ()),
    "sunset": ("jobs.eager", Sunset(), ()),
    "celery.cleanup": ("jobs.eager", schedule(3600), ()),
}


def early(moment: Any) -> Any:
    return moment - timedelta(days=1)


if os.environ.get("JOBS_BEAT") == "celery":
    app.conf.beat_schedule = {
        name: {"task": task, "schedule": when, "args": args} for name, (task, when, args) in SCHEDULES.items()
    }


class Early(Scheduler):
    """Celery's own, in memory, with every entry overdue."""

    def setup_schedule(self) -> None:
        self.merge_inplace(self.app.conf.beat_schedule)
        for entry in self.schedule.values():
            entry.last_run_at = early(entry.last_run_at)

    @property
    def schedule(self) -> Any:
        return self.data


def fill_redbeat() -> None:
    from redbeat import RedBeatSchedulerEntry

    entry = RedBeatSchedulerEntry("by redbeat", "jobs.add", schedule(7200, app=app), args=[1, 2], app=app)
    entry.last_run_at = early(entry.last_run_at)
    entry.save()


def fill_django() -> None:
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=["django_celery_beat"], USE_TZ=True, TIME_ZONE="Europe/Vienna",
        MIGRATION_MODULES={"django_celery_beat": None},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["JOBS_DATABASE"]}},
    )  # fmt: skip
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from django.utils import timezone
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    when = CrontabSchedule.objects.create(minute="*", timezone="Asia/Tokyo")
    PeriodicTask.objects.create(
        name="by django", task="jobs.add", args="[1, 2]", crontab=when, last_run_at=early(timezone.now())
    )


{"redbeat": fill_redbeat, "django": fill_django}.get(os.environ.get("JOBS_BEAT", ""), lambda: None)()
