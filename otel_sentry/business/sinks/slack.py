"""Slack, by an incoming webhook (Block Kit; the bounds are Slack's)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_sentry.business.sinks import Alert
from otel_sentry.business.sinks.post import post
from otel_sentry.convention.naming import cut
from otel_sentry.sentry.envelope import dumps

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

_SIGNS = {"critical": "🔴", "error": "🟠", "warning": "🟡", "info": "🔵"}
_MAX_HEADER = 150
_MAX_TEXT = 3000
_MAX_FIELD = 2000
_MAX_FIELDS = 10
#: A URL on a button.
_MAX_URL = 3000


def send(alert: Alert, settings: Settings) -> None:
    """Post *alert* to `OTEL_SENTRY_SLACK_WEBHOOK_URL`."""
    post(settings.slack_webhook_url, message(alert), settings, "OTEL_SENTRY_SLACK_WEBHOOK_URL")


def message(alert: Alert) -> dict[str, Any]:
    """The webhook's document; ``text`` is what notifications show."""
    sign = "✅" if alert.resolved else _SIGNS.get(alert.severity, "")
    word = "Resolved" if alert.resolved else alert.severity.capitalize()
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": cut(f"{sign} {word}: {alert.type}", _MAX_HEADER)}},
        {"type": "section", "text": _mrkdwn(alert.message or alert.type, _MAX_TEXT)},
    ]
    facts = alert.facts()
    if facts:
        fields = [_mrkdwn(f"*{name}*\n{_escaped(value)}", _MAX_FIELD, escape=False) for name, value in facts.items()]
        blocks.append({"type": "section", "fields": fields[:_MAX_FIELDS]})
    if alert.context:
        text = _escaped(dumps(dict(alert.context)).decode())
        text = f"```{cut(text, _MAX_TEXT - 10)}```"
        blocks.append({"type": "section", "text": _mrkdwn(text, _MAX_TEXT, escape=False)})
    buttons = [
        {"type": "button", "text": {"type": "plain_text", "text": name}, "url": url}
        for name, url in alert.links().items()
        if len(url) <= _MAX_URL
    ]
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    return {"text": cut(_escaped(alert.title), _MAX_TEXT), "blocks": blocks}


def _mrkdwn(text: str, limit: int, *, escape: bool = True) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": cut(_escaped(text) if escape else text, limit)}


def _escaped(text: str) -> str:
    """No text of an alert is a mention (``<!channel>``) or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
