"""The launcher's entry points: `opentelemetry-instrument` finds these by name and calls them before the program."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from otel_sentry import guard, instrument, runtime
from otel_sentry.launch_env import set_defaults


class SentryDistro(BaseDistro):  # type: ignore[misc]
    """Sets OpenTelemetry's defaults and loads the instrumentors lazily."""

    def _configure(self, **kwargs: Any) -> None:
        set_defaults(os.environ)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Arrange for the instrumentor; where nothing is configured the program runs as without us."""
        if runtime.get() is None:
            return
        with guard.block(f"instrumentor {entry_point.name}"):
            instrument.arrange(entry_point)


class SentryConfigurator:
    """Builds the pipeline from the environment variables.

    Not a subclass of the SDK's `_BaseConfigurator`: the launcher only calls `configure`, and that module loads the
    SDK's metrics and logs, a quarter of our start-up time.
    """

    def configure(self, **kwargs: Any) -> None:
        from otel_sentry.bootstrap import configure

        if os.environ.get("OTEL_CONFIG_FILE"):
            guard.say("OTEL_CONFIG_FILE is not read by this distro; use environment variables")
        with guard.block("configure"):
            configure(instrument=False)
