"""``manage.py otel_sentry doctor [--send]``: ``otel-sentry doctor`` with the application's settings."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from otel_sentry.cli import doctor
from otel_sentry_django.checks import findings


class Command(BaseCommand):  # type: ignore[misc]
    """The command; its exit status is 1 if anything fails."""

    help = "Is the set-up of otel-sentry sound?"
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own declaration

    def add_arguments(self, parser: ArgumentParser) -> None:
        """``doctor``, and ``--send``."""
        parser.add_argument("action", choices=["doctor"])
        parser.add_argument("--send", action="store_true", help="send a test error and say whether it was accepted")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the doctor."""
        status = doctor.run(send=options["send"], more=findings())
        if status:
            sys.exit(status)
