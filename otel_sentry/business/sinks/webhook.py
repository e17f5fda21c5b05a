"""A webhook of your own: one JSON document with fixed fields."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from otel_sentry.business.sinks import Alert
from otel_sentry.business.sinks.post import post
from otel_sentry.sentry.envelope import plain_data

if TYPE_CHECKING:
    from otel_sentry.settings import Settings


def send(alert: Alert, settings: Settings) -> None:
    """Post *alert* to `OTEL_SENTRY_ALERT_WEBHOOK_URL`."""
    post(settings.alert_webhook_url, document(alert), settings, "OTEL_SENTRY_ALERT_WEBHOOK_URL")


def document(alert: Alert) -> dict[str, Any]:
    """The fields are always there; what is not known is null."""
    return {
        "action": "resolve" if alert.resolved else "trigger",
        "id": alert.id,
        "type": alert.type,
        "severity": alert.severity,
        "message": alert.message,
        "time": datetime.fromtimestamp(alert.at, timezone.utc).isoformat(timespec="milliseconds"),
        "dedup_key": alert.dedup_key,
        "environment": alert.environment,
        "service": alert.service,
        "server": alert.server,
        "release": alert.release,
        "user_id": alert.user_id,
        "operation": alert.operation,
        "trace_id": alert.trace_id,
        "context": plain_data(alert.context),
        "suppressed": alert.suppressed,
        "suppressed_by_rate": alert.suppressed_by_rate,
        "event_url": alert.event_url,
        "trace_url": alert.trace_url,
    }
