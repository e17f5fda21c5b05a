"""The app's configuration."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Members of the studio."""

    name = "accounts"

    def ready(self) -> None:
        """Runs in every process of the studio."""
        from otel_sentry import business_metrics

        from . import onboarding

        business_metrics.declare_funnel(onboarding.NAME, onboarding.STEPS)
