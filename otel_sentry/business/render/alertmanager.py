"""Alertmanager's configuration: routes by severity to Slack, e-mail and PagerDuty. Secrets are read from files."""

from __future__ import annotations

from typing import Any

_SECRETS = "/etc/alertmanager/secrets"
_TITLE = "[{{ .CommonLabels.severity }}] {{ .CommonAnnotations.summary }}"
_TEXT = '{{ range .Alerts }}{{ .Annotations.description }} {{ .Labels.SortedPairs.Values | join " " }}\n{{ end }}'


def config() -> dict[str, Any]:
    """critical: PagerDuty, Slack and e-mail; warning: Slack and e-mail; info: e-mail."""
    return {
        "global": {
            "smtp_smarthost": "localhost:25",
            "smtp_from": "alertmanager@example.com",
            "slack_api_url_file": f"{_SECRETS}/slack_url",
        },
        "route": {
            "receiver": "info",
            "group_by": ["alertname"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [
                {"receiver": level, "matchers": [f'severity="{level}"'], **more}
                for level, more in (("critical", {"group_wait": "0s", "repeat_interval": "1h"}), ("warning", {}))
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="critical"'],
                "target_matchers": ['severity="warning"'],
                "equal": ["alertname"],
            }
        ],
        "receivers": [
            {"name": "critical", **_pagerduty(), **_slack("#alerts-critical"), **_email("oncall@example.com")},
            {"name": "warning", **_slack("#alerts"), **_email("team@example.com")},
            {"name": "info", **_email("team@example.com")},
        ],
    }


def _slack(channel: str) -> dict[str, Any]:
    return {"slack_configs": [{"channel": channel, "send_resolved": True, "title": _TITLE, "text": _TEXT}]}


def _email(to: str) -> dict[str, Any]:
    return {"email_configs": [{"to": to, "send_resolved": True, "headers": {"Subject": _TITLE}}]}


def _pagerduty() -> dict[str, Any]:
    return {
        "pagerduty_configs": [
            {
                "routing_key_file": f"{_SECRETS}/pagerduty_routing_key",
                "severity": "critical",
                "description": _TITLE,
            }
        ]
    }
