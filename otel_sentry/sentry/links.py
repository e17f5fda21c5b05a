"""From an issue to its trace in another backend (`OTEL_SENTRY_TRACE_URL`); the span has ``sentry.event_id`` already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_sentry import wiring
from otel_sentry.trace.rate import keeps

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

#: Sentry's limit for a tag's value.
_MAX_TAG = 200


def add_trace_link(event: dict[str, Any], settings: Settings) -> None:
    """Context ``trace_link`` (``url``; ``sampled``: within the other backend's rate?) and tag ``trace_url``."""
    trace = event["contexts"]["trace"]
    if not settings.trace_url or not trace.get("trace_id"):
        return
    url = settings.trace_url.format(trace_id=trace["trace_id"], span_id=trace.get("span_id") or "")
    link: dict[str, Any] = {"url": url}
    if wiring.other_exporters(settings):
        link["sampled"] = keeps(int(trace["trace_id"], 16), wiring.other_rate(settings))
    event["contexts"].setdefault("trace_link", link)
    if len(url) <= _MAX_TAG:
        event["tags"] = {"trace_url": url, **(event.get("tags") or {})}
