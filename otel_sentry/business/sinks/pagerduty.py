"""PagerDuty, by its Events API v2: one incident for each type of alert, until it is resolved."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from otel_sentry.business.sinks import Alert, Refused
from otel_sentry.business.sinks.post import post
from otel_sentry.convention.naming import cut
from otel_sentry.sentry.envelope import plain_data

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

_MAX_SUMMARY = 1024
#: Characters of the details, about; an event may have 512 KB.
_MAX_DETAILS = 64 * 1024


def send(alert: Alert, settings: Settings) -> None:
    """Trigger or resolve the incident of *alert*'s type, with `OTEL_SENTRY_PAGERDUTY_ROUTING_KEY`."""
    key = settings.pagerduty_routing_key
    if not key:
        raise Refused("OTEL_SENTRY_PAGERDUTY_ROUTING_KEY is not set")
    post(settings.pagerduty_url, event(alert, key), settings, "OTEL_SENTRY_PAGERDUTY_URL")


def event(alert: Alert, routing_key: str) -> dict[str, Any]:
    """The document: to resolve, keys are all it takes."""
    action = "resolve" if alert.resolved else "trigger"
    keys = {"routing_key": routing_key, "event_action": action, "dedup_key": alert.dedup_key}
    if alert.resolved:
        return keys
    details = {name.lower().replace(" ", "_"): value for name, value in alert.facts().items()}
    found: dict[str, Any] = {
        **keys,
        "client": "otel-sentry",
        "payload": {
            "summary": cut(alert.title, _MAX_SUMMARY),
            "source": alert.server or alert.service or "unknown",
            "severity": alert.severity,
            "timestamp": datetime.fromtimestamp(alert.at, timezone.utc).isoformat(timespec="milliseconds"),
            "component": alert.service,
            "group": alert.environment,
            "class": alert.type,
            "custom_details": plain_data({**details, "trace_id": alert.trace_id, **alert.context}, _MAX_DETAILS),
        },
    }
    links = [{"href": url, "text": name} for name, url in alert.links().items()]
    if links:
        found.update(links=links, client_url=links[0]["href"])
    return found
