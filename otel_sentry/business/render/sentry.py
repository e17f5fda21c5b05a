"""Sentry's monitors, alerts and dashboard, as its API takes them.

Recorded from getsentry/sentry-api-schema, commit a589a26c (2026-08-16): "Create a Monitor for a Project"
(``detectors``), "Create an Alert for an Organization" (``workflows``), "Create a New Dashboard for an Organization".
Aggregates of Application Metrics are ``function(value,name,type,unit)`` or ``function_if(`filter`,value,...)``; what
the catalogue marks as ``from_spans`` is asked of spans.
A monitor watches a project as a whole: its issue does not say which route or module it was; the dashboard does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from otel_sentry.business.catalogue import (
    ALERTS,
    DISTRIBUTION,
    METRICS,
    PANELS,
    Alert,
    Condition,
    Panel,
    Query,
    Where,
)  # fmt: skip

PREFIX = "otel-sentry: "
_UNITS = {"s": "second", "%": "percent", "1": "ratio", None: "none"}
#: Metric -> which spans have it.
_SPANS = {
    "app.request.duration": "is_transaction:true span.op:http.server",
    "app.task.duration": "is_transaction:true span.op:[queue.process,queue.task.celery]",
    "app.database.duration": "span.op:db*",
}
_PRIORITY = {"critical": 75, "warning": 50}
_FREQUENCY_MIN = {"critical": 5, "warning": 30}
#: Columns of the dashboard's grid, those of a widget, and its rows.
_GRID, _WIDTH, _HEIGHT = 6, 2, 2


class _Asked(NamedTuple):
    dataset: str  # "spans" or "tracemetrics"
    aggregate: str
    conditions: str
    columns: list[str]
    scale: float = 1.0  # of thresholds: Sentry's spans are in milliseconds


def definitions(environment: str | None = None) -> dict[str, Any]:
    """All of it: monitors by the alert they belong to, alerts (one for each level), the dashboard."""
    return {"monitors": monitors(environment), "alerts": alerts(environment), "dashboard": dashboard()}


def monitors(environment: str | None = None) -> list[dict[str, Any]]:
    """The bodies of the monitors."""
    found = []
    for alert in ALERTS:
        for number, condition in enumerate(alert.any_of, 1):
            name = PREFIX + alert.title + (f" ({number})" if len(alert.any_of) > 1 else "")
            found.append(_monitor(name, alert, condition, environment))
    return found


def _monitor(name: str, alert: Alert, condition: Condition, environment: str | None) -> dict[str, Any]:
    asked = _asked(condition.query, extra=_damping(condition))
    above = condition.above * asked.scale
    source: dict[str, Any] = {
        "aggregate": asked.aggregate,
        "dataset": "events_analytics_platform",
        "eventTypes": ["trace_item_span" if asked.dataset == "spans" else "trace_item_metric"],
        "query": asked.conditions,
        "queryType": 1,
        "timeWindow": condition.query.window_s,
    }
    if environment:
        source["environment"] = environment
    return {
        "name": name,
        "type": "metric_issue",
        "description": alert.doc,
        "enabled": True,
        "config": {"detectionType": "static"},
        "dataSources": [source],
        "conditionGroup": {
            "logicType": "any",
            "conditions": [
                {"type": "gt", "comparison": above, "conditionResult": _PRIORITY[alert.level]},
                {"type": "lte", "comparison": above, "conditionResult": 0},
            ],
            "actions": [],
        },
    }


def _damping(condition: Condition) -> float:
    """A monitor has one condition. In place of "and enough of them" a share is taken of so many more."""
    return (condition.enough_above + 1) / 2 if condition.enough is not None else 0


def alerts(environment: str | None = None) -> list[dict[str, Any]]:
    """The bodies of the alerts, one for each level, still without the ids of their monitors (``detectorIds``)."""
    return [
        {
            "name": PREFIX + level,
            "enabled": True,
            "environment": environment,
            "config": {"frequency": frequency},
            "triggers": {
                "logicType": "any-short",
                "conditions": [
                    {"type": kind, "comparison": True, "conditionResult": True}
                    for kind in ("first_seen_event", "reappeared_event", "regression_event")
                ],
                "actions": [],
            },
            "actionFilters": [{"logicType": "any-short", "conditions": [], "actions": [_TO_OWNERS]}],
        }
        for level, frequency in _FREQUENCY_MIN.items()
    ]


_TO_OWNERS = {
    "type": "email",
    "integrationId": None,
    "data": {"fallthroughType": "ActiveMembers"},
    "config": {"targetType": "issue_owners", "targetDisplay": None, "targetIdentifier": ""},
    "status": "active",
}


def monitors_of(level: str) -> list[str]:
    """The names of the monitors whose issues an alert of this level tells of."""
    titles = tuple(PREFIX + alert.title for alert in ALERTS if alert.level == level)
    return [monitor["name"] for monitor in monitors() if monitor["name"].startswith(titles)]


def dashboard() -> dict[str, Any]:
    """The body of the dashboard."""
    return {
        "title": "Business and health (otel-sentry)",
        "widgets": [_widget(number, panel) for number, panel in enumerate(PANELS)],
    }


def _widget(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _GRID // _WIDTH)
    asked = [_asked(query) for _, query in panel.queries]
    first = asked[0]
    aggregates = [one.aggregate for one in asked]
    return {
        "title": panel.title,
        "description": panel.doc,
        "displayType": "line",
        "widgetType": first.dataset,
        "interval": "5m",
        "limit": 5 if first.columns else None,
        "queries": [
            {
                "name": "",
                "fields": [*first.columns, *aggregates],
                "aggregates": aggregates,
                "columns": first.columns,
                "conditions": first.conditions,
                "orderby": f"-{aggregates[-1]}" if first.columns else "",
            }
        ],
        "layout": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT, "minH": _HEIGHT},
    }


def _asked(query: Query, extra: float = 0) -> _Asked:
    """*query* in Sentry's words; *extra* is added to what it is divided by."""
    if query.metric in _SPANS:
        return _of_spans(query)
    if query.per is None:
        return _Asked("tracemetrics", _aggregate(query), _conditions(query.where), list(query.by))
    if query.per.metric in _SPANS:  # two datasets: spans know of failures, too
        return _Asked("spans", "failure_rate()", _SPANS[query.per.metric], ["transaction"])
    below = _aggregate(query.per, query.per.where)
    below = f"({below} + {extra:g})" if extra else below
    return _Asked("tracemetrics", f"equation|{_aggregate(query, query.where)} / {below}", "", list(query.by))


def _of_spans(query: Query) -> _Asked:
    how = "count" if query.how == "count" else query.how
    columns = ["transaction"] if query.by else []
    return _Asked("spans", f"{how}(span.duration)", _SPANS[query.metric], columns, 1000.0)


def _aggregate(query: Query, only: tuple[Where, ...] = ()) -> str:
    metric = METRICS[query.metric]
    of = f"{metric.name},{metric.kind},{_UNITS[metric.unit]}"
    condition = f"`{_conditions(only)}`," if only else ""
    suffix = "_if" if only else ""
    if query.how == "count" and metric.kind == DISTRIBUTION:
        return f"count{suffix}({condition}value,{of})"
    how = {"count": "sum", "last": "max"}.get(query.how, query.how)
    return f"{how}{suffix}({condition}value,{of})"


def _conditions(where: tuple[Where, ...]) -> str:
    return " ".join(_one(one) for one in where)


def _one(where: Where) -> str:
    if len(where.globs) == 1:
        return f"{'!' if where.negate else ''}{where.label}:{where.globs[0]}"
    if where.negate:
        return " ".join(f"!{where.label}:{glob}" for glob in where.globs)
    if any("*" in glob for glob in where.globs):
        return f"({' OR '.join(f'{where.label}:{glob}' for glob in where.globs)})"
    return f"{where.label}:[{','.join(where.globs)}]"
