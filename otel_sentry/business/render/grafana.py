"""Grafana's dashboard, with Prometheus (or Mimir) as its source."""

from __future__ import annotations

from typing import Any

from otel_sentry.business.catalogue import PANELS, Panel
from otel_sentry.business.render import promql

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_UNITS = {"s": "s", "1": "percentunit", None: "short"}
#: Columns and rows of the grid.
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


def dashboard() -> dict[str, Any]:
    """In the JSON model of dashboards, schema version 39 (Grafana 11)."""
    return {
        "uid": "otel-sentry",
        "title": "Business and health (otel-sentry)",
        "tags": ["otel-sentry"],
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.doc,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": _UNITS[panel.unit], "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": promql.expression(query),
                "legendFormat": legend.replace("{", "{{").replace("}", "}}"),
            }
            for index, (legend, query) in enumerate(panel.queries)
        ],
    }
