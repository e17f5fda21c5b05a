"""Check-ins as Sentry takes them: one ``check_in`` item each, before spans, in the category ``monitor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

from otel_sentry.sentry.envelope import dumps, envelope
from otel_sentry.sentry.sender import Ready

if TYPE_CHECKING:
    from otel_sentry.runtime import Runtime


def send(
    current: Runtime,
    slug: str,
    status: str,
    check_in_id: str,
    config: Mapping[str, Any] | None,
    duration_s: float | None,
) -> None:
    """Queue one check-in."""
    assert current.sender is not None
    fields: dict[str, Any] = {
        "check_in_id": check_in_id,
        "monitor_slug": slug,
        "status": status,
        "environment": current.settings.environment,
        "release": current.settings.release,
        "duration": None if duration_s is None else round(duration_s, 6),
        "monitor_config": config,
        "contexts": _contexts(),
    }
    payload = dumps({name: value for name, value in fields.items() if value is not None})
    current.sender.put(Ready(envelope("check_in", payload, (("monitor", 1),))), urgent=True)


def _contexts() -> dict[str, Any] | None:
    span_context = get_current_span().get_span_context()
    return {"trace": {"trace_id": f"{span_context.trace_id:032x}"}} if span_context.is_valid else None
