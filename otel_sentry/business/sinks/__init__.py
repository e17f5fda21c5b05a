"""Where alerts go beside Sentry: Slack, e-mail, PagerDuty, a webhook, or a function of your own.

A sink is a function ``(alert: Alert, settings: Settings) -> None`` under a name in the entry point group
``otel_sentry_alert_sinks``; `OTEL_SENTRY_ALERT_SINKS` chooses by that name. It runs on a thread of its own, may take
its time, and returns when the alert has arrived. Otherwise it raises: `TryAgain` or any `OSError` is tried again, for
two minutes at most; `Refused` and everything else is not. Only the words given to `TryAgain` and `Refused` are ever
shown: the text of other exceptions may hold a URL with a secret in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Refused(Exception):
    """The other side does not want this alert; the message says why, without a secret."""


class TryAgain(Exception):
    """The other side can't take it now. *after_s*: seconds that it asks for (``Retry-After``)."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as a sink gets it: scrubbed, every text bounded."""

    id: str  # the event's id in Sentry; of a resolved one, an id of its own
    type: str
    severity: str  # "critical", "error", "warning" or "info"
    message: str
    at: float  # seconds since the epoch
    environment: str
    service: str
    server: str
    release: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    user_id: str | None = None
    operation: str | None = None
    trace_id: str | None = None
    suppressed: int = 0  # the same alert, left out since the one before
    suppressed_by_rate: int = 0  # any alerts, left out because there were too many
    event_url: str | None = None
    trace_url: str | None = None
    resolved: bool = False  # it is over: what was said about this type no longer holds

    @property
    def dedup_key(self) -> str:
        """Equal for all alerts of a type, as the fingerprint of the issue is."""
        return f"business-alert:{self.type}"[:255]

    @property
    def title(self) -> str:
        """One line: severity, type, message."""
        word = "resolved" if self.resolved else self.severity
        return " ".join(f"[{word}] {self.type}: {self.message}".split())

    def facts(self) -> dict[str, str]:
        """What is known of it, for people; without what is not known."""
        left_out = self.suppressed + self.suppressed_by_rate
        found = {
            "Environment": self.environment,
            "Service": self.service,
            "Release": self.release,
            "Operation": self.operation,
            "User": self.user_id,
            "Left out before": str(left_out) if left_out else None,
        }
        return {name: value for name, value in found.items() if value}

    def links(self) -> dict[str, str]:
        """Addresses in Sentry; empty without `OTEL_SENTRY_WEB_URL`."""
        found = {"Issue in Sentry": self.event_url, "Trace": self.trace_url}
        return {name: url for name, url in found.items() if url}
