"""``INSTALLED_APPS = ["otel_sentry_django", ...]``: the set-up without the launcher."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks

from otel_sentry import guard, runtime


class OtelSentryConfig(AppConfig):  # type: ignore[misc]
    """Configures otel-sentry from the environment, unless the launcher or the application has done so."""

    name = "otel_sentry_django"
    verbose_name = "otel-sentry"

    def ready(self) -> None:
        """Runs in ``django.setup()``, before the first handler reads ``settings.MIDDLEWARE``."""
        with guard.block("otel_sentry_django.ready"):
            if runtime.get() is None:
                import otel_sentry

                otel_sentry.configure()
        checks.register(_check)


def _check(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    from otel_sentry_django.checks import check

    return check(app_configs, **kwargs)
