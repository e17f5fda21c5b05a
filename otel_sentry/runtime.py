"""The one set-up of this process: who can reach what. Made by `configure`, read by everybody else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from otel_sentry.sentry.dsn import Dsn
    from otel_sentry.sentry.sender import Sender
    from otel_sentry.settings import Settings
    from otel_sentry.trace.pipeline import SpanPipeline
    from otel_sentry.trace.sampler import SentrySampler


@dataclass
class Runtime:
    """What `configure` built. *sender* is None when nothing goes to Sentry (other backends only)."""

    settings: Settings
    dsn: Dsn | None
    sender: Sender | None
    sampler: SentrySampler
    pipeline: SpanPipeline
    provider: TracerProvider | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


_current: Runtime | None = None


def get() -> Runtime | None:
    """The set-up in force, None before `configure` and where nothing is configured."""
    return _current


def set_current(runtime: Runtime | None) -> None:
    """Put a set-up in force (`configure`, tests)."""
    global _current
    _current = runtime
