"""Datadog's dashboard and monitors, for metrics that came by OTLP: names with dots, histograms as distributions.

Percentiles need "percentile aggregations" turned on for a distribution (Metrics, Summary), once.
"""

from __future__ import annotations

from typing import Any

from otel_sentry.business.catalogue import ALERTS, DISTRIBUTION, METRICS, PANELS, Alert, Condition, Panel, Query, Where

_PRIORITY = {"critical": 1, "warning": 3}


def dashboard() -> dict[str, Any]:
    """In the JSON of Datadog's dashboards API, version 1."""
    return {
        "title": "Business and health (otel-sentry)",
        "description": "Made from otel-sentry's catalogue.",
        "layout_type": "ordered",
        "template_variables": [{"name": "env", "prefix": "env", "available_values": [], "default": "*"}],
        "widgets": [{"definition": _widget(panel)} for panel in PANELS],
    }


def _widget(panel: Panel) -> dict[str, Any]:
    queries, formulas = [], []
    for index, (legend, query) in enumerate(panel.queries):
        name = f"q{index}"
        queries.append(_data(name, query))
        formula = name
        if query.per is not None:
            queries.append(_data(f"{name}_all", query.per))
            formula = f"{name} / {name}_all"
        formulas.append({"formula": formula, "alias": legend.split("{")[0].strip() or panel.title})
    return {
        "type": "timeseries",
        "title": panel.title,
        "show_legend": True,
        "requests": [
            {"response_format": "timeseries", "display_type": "line", "queries": queries, "formulas": formulas}
        ],
    }


def _data(name: str, query: Query) -> dict[str, str]:
    return {"data_source": "metrics", "name": name, "query": text(query, extra=("$env",))}


def monitors() -> list[dict[str, Any]]:
    """In the JSON of Datadog's monitors API, version 1; ``{name}`` in a composite stands for the id of that monitor."""
    found: list[dict[str, Any]] = []
    for alert in ALERTS:
        parts = list(enumerate(alert.any_of))
        for number, condition in parts:
            name = alert.name if len(parts) == 1 else f"{alert.name}_{number + 1}"
            found += _monitors(name, alert, condition)
    return found


def _monitors(name: str, alert: Alert, condition: Condition) -> list[dict[str, Any]]:
    if condition.enough is None:
        return [_monitor(name, alert, condition.query, condition.above)]
    share, enough = f"{name}_share", f"{name}_enough"
    both = _definition(name, alert, "composite", f"{{{share}}} && {{{enough}}}", {})
    return [
        _monitor(share, alert, condition.query, condition.above),
        _monitor(enough, alert, condition.enough, condition.enough_above),
        both,
    ]


def _monitor(name: str, alert: Alert, query: Query, above: float) -> dict[str, Any]:
    window = f"last_{max(query.window_s, alert.for_s) // 60}m"
    over = "sum" if query.how == "count" else "avg"
    found = f"{over}({window}):{text(query)}" + (f" / {text(query.per)}" if query.per is not None else "")
    kind = "query alert" if query.how != "count" else "metric alert"
    return _definition(name, alert, kind, f"{found} > {above:g}", {"thresholds": {"critical": above}})


def _definition(name: str, alert: Alert, kind: str, query: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"otel-sentry: {name}",
        "type": kind,
        "query": query,
        "message": f"{alert.title}: {alert.doc}",
        "tags": ["otel-sentry", f"severity:{alert.level}"],
        "priority": _PRIORITY[alert.level],
        "options": {**options, "notify_no_data": False, "include_tags": True},
    }


def text(query: Query, extra: tuple[str, ...] = ()) -> str:
    """*query* (without what it is divided by) as Datadog writes it."""
    scope = " AND ".join((*extra, *map(_scope, query.where))) or "*"
    by = f" by {{{','.join(query.by)}}}" if query.by else ""
    if query.how == "count":
        how = "count" if METRICS[query.metric].kind == DISTRIBUTION else "sum"
        return f"{how}:{query.metric}{{{scope}}}{by}.as_count()"
    return f"{'max' if query.how == 'last' else query.how}:{query.metric}{{{scope}}}{by}"


def _scope(where: Where) -> str:
    found = " OR ".join(f"{where.label}:{glob}" for glob in where.globs)
    if where.negate:
        return f"NOT ({found})" if len(where.globs) > 1 else f"NOT {found}"
    return f"({found})" if len(where.globs) > 1 else found
