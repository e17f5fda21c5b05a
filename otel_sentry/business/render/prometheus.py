"""Prometheus' alerting rules, and cases for ``promtool test rules``."""

from __future__ import annotations

from typing import Any

from otel_sentry.business.catalogue import ALERTS, METRICS, Alert
from otel_sentry.business.render import promql

#: Alert -> input series (metric, its part, labels, values a minute) with which it fires, its labels, and after how many
#: minutes; then series with which it does not.
_Input = tuple[str, str, dict[str, str], str]
_CASES: dict[str, tuple[list[_Input], dict[str, str], int, list[_Input]]] = {
    "authentication_failures": (
        [("auth.login", "_total", {"outcome": "ok"}, "0x5 9x20"),
         ("auth.login", "_total", {"outcome": "failed"}, "0x5 11x20")], {}, 7,
        [("auth.login", "_total", {"outcome": "ok"}, "0x5 9x20"),
         ("auth.login", "_total", {"outcome": "failed"}, "0x5 10x20")],
    ),
    "database_connection": (
        [("app.errors", "_total", {"module": "a", "kind": "database", "connection": "true"}, "_x6 2x20"),
         ("app.errors", "_total", {"module": "b", "kind": "database", "connection": "true"}, "7x5 8x20")], {}, 6,
        [("app.errors", "_total", {"module": "a", "kind": "database", "connection": "true"}, "_x6 2x20"),
         ("app.errors", "_total", {"module": "a", "kind": "database"}, "0x5 50x20")],
    ),
    "payment_failures": (
        [("business.operation.duration", "_count", {"operation": "payment_capture", "outcome": "error"}, "_x5 1x20")],
        {"operation": "payment_capture"}, 6,
        [("business.operation.duration", "_count", {"operation": "payment_capture", "outcome": "ok"}, "0x5 9x20"),
         ("business.operation.duration", "_count", {"operation": "export", "outcome": "error"}, "0x5 9x20")],
    ),
    "security_breach": (
        [("security.incident", "_total", {"kind": "brute_force_account"}, "_x5 1x20")],
        {"kind": "brute_force_account"}, 6,
        [("security.incident", "_total", {"kind": "forbidden_burst"}, "_x5 1x20")],
    ),
    "slow_responses": (
        [("app.request.duration", "_bucket", {"route": "GET /a", "le": "2"}, "0+8x20"),
         ("app.request.duration", "_bucket", {"route": "GET /a", "le": "5"}, "0+10x20"),
         ("app.request.duration", "_bucket", {"route": "GET /a", "le": "+Inf"}, "0+10x20")],
        {"route": "GET /a"}, 12,
        [("app.request.duration", "_bucket", {"route": "GET /a", "le": "2"}, "0+10x20"),
         ("app.request.duration", "_bucket", {"route": "GET /a", "le": "+Inf"}, "0+10x20")],
    ),
    "error_rate": (
        [("app.errors", "_total", {"module": "posts", "kind": "other"}, "0+6x20"),
         ("app.request.duration", "_count", {"module": "posts", "route": "GET /a"}, "0+60x20"),
         ("app.request.duration", "_count", {"module": "posts", "route": "GET /b"}, "0+40x20")],
        {"module": "posts"}, 12,
        [("app.errors", "_total", {"module": "posts", "kind": "other"}, "0+5x20"),
         ("app.request.duration", "_count", {"module": "posts", "route": "GET /a"}, "0+100x20")],
    ),
    "failed_tasks": (
        [("app.task.failures", "_total", {"task": "posts.tasks.render"}, "3x5 4x20")],
        {"task": "posts.tasks.render"}, 6,
        [("app.task.failures", "_total", {"task": "posts.tasks.render"}, "3x25")],
    ),
    "suspicious_activity": (
        [("security.incident", "_total", {"kind": "forbidden_burst"}, "_x5 1x20")],
        {"kind": "forbidden_burst"}, 6,
        [("security.incident", "_total", {"kind": "brute_force_account"}, "_x5 1x20")],
    ),
}  # fmt: skip


def rules() -> dict[str, Any]:
    """The rules, one for each alert that has conditions."""
    return {"groups": [{"name": "otel-sentry", "rules": [_rule(alert) for alert in ALERTS if alert.any_of]}]}


def _rule(alert: Alert) -> dict[str, Any]:
    conditions = [promql.condition(one) for one in alert.any_of]
    found: dict[str, Any] = {
        "alert": alert.name,
        "expr": conditions[0] if len(conditions) == 1 else " or ".join(f"({one})" for one in conditions),
    }
    if alert.for_s:
        found["for"] = f"{alert.for_s // 60}m"
    return {**found, "labels": {"severity": alert.level}, "annotations": _annotations(alert)}


def _annotations(alert: Alert) -> dict[str, str]:
    return {"summary": alert.title, "description": alert.doc}


def tests(rule_file: str) -> dict[str, Any]:
    """For each rule a case in which it fires and one in which it does not."""
    found = []
    for alert in ALERTS:
        if alert.any_of:
            fires, labels, minutes, silent = _CASES[alert.name]
            expected = {
                "exp_labels": {"severity": alert.level, **labels}, "exp_annotations": _annotations(alert),
            }  # fmt: skip
            found.append(_case(alert.name, fires, minutes, [expected]))
            found.append(_case(alert.name, silent, minutes, []))
    return {"rule_files": [rule_file], "evaluation_interval": "1m", "tests": found}


def _case(name: str, inputs: list[_Input], minutes: int, expected: list[Any]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [
            {"series": _series(metric, part, labels), "values": values} for metric, part, labels, values in inputs
        ],
        "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": name, "exp_alerts": expected}],
    }


def _series(metric: str, part: str, labels: dict[str, str]) -> str:
    matchers = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{promql.base(METRICS[metric])}{part}{{{matchers}}}"
