"""The catalogue as the files that backends read; `scripts/catalogue.py` writes them to collector-config/generated/."""

from __future__ import annotations

import json
from typing import Any

from otel_sentry.business.render import alertmanager, datadog, grafana, prometheus, sentry

#: First line of what may hold comments.
HEAD = "# Made from otel_sentry/business/catalogue.py: change that, then run `make catalogue`.\n"
GRAFANA = "grafana-dashboard.json"


def files() -> dict[str, str]:
    """File name -> text. Grafana's is missing where its builder is not installed."""
    found = {
        "prometheus-rules.yaml": HEAD + yaml(prometheus.rules()),
        "prometheus-rules-test.yaml": HEAD + yaml(prometheus.tests("prometheus-rules.yaml")),
        "alertmanager.yaml": HEAD + yaml(alertmanager.config()),
        "datadog-dashboard.json": _json(datadog.dashboard()),
        "datadog-monitors.json": _json(datadog.monitors()),
        "sentry.json": _json(sentry.definitions()),
    }
    try:
        found[GRAFANA] = _json(grafana.dashboard())
    except ImportError:
        pass
    return found


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def yaml(value: Any, indent: int = 0) -> str:
    """Plain data as YAML: keys bare, texts as JSON writes them."""
    space = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{space}{key}:\n{yaml(item, indent + 1)}")
            else:
                lines.append(f"{space}{key}: {json.dumps(item, ensure_ascii=False)}\n")
        return "".join(lines)
    if isinstance(value, list) and value:
        return "".join(f"{space}- {yaml(item, indent + 1).lstrip()}" for item in value)
    return f"{space}{json.dumps(value, ensure_ascii=False)}\n"
