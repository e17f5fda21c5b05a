"""Series and expressions as Prometheus has them, written there by the Collector's `prometheusremotewrite`."""

from __future__ import annotations

import re

from otel_sentry.business.catalogue import COUNTER, DISTRIBUTION, GAUGE, METRICS, Condition, Metric, Query, Where

#: UCUM -> suffix (the Collector's translation, "Prometheus and OpenMetrics Compatibility"). "1" is "ratio" for gauges.
_SUFFIXES = {"s": "_seconds", "%": "_percent"}


def base(metric: Metric) -> str:
    """``app.request.duration`` -> ``app_request_duration_seconds``."""
    suffix = "_ratio" if metric.unit == "1" and metric.kind == GAUGE else _SUFFIXES.get(metric.unit or "", "")
    return metric.name.replace(".", "_") + suffix


def series(metric: Metric) -> list[str]:
    """The names of all series of a metric."""
    if metric.kind == DISTRIBUTION:
        return [base(metric) + part for part in ("_bucket", "_count", "_sum")]
    return [base(metric) + ("_total" if metric.kind == COUNTER else "")]


def expression(query: Query) -> str:
    """*query* as PromQL."""
    metric = METRICS[query.metric]
    by = f" by ({', '.join(query.by)})" if query.by else ""
    if query.how == "count":
        name = base(metric) + ("_count" if metric.kind == DISTRIBUTION else "_total")
        found = f"sum{by} ({_grown(selector(name, query.where), query.window_s)})"
    elif query.how == "last":
        found = f"max{by} ({selector(base(metric), query.where)})"
    else:
        buckets = selector(f"{base(metric)}_bucket", query.where)
        labels = ", ".join(("le", *query.by))
        share = int(query.how[1:]) / 100
        found = f"histogram_quantile({share:g}, sum by ({labels}) (rate({buckets}[{_window(query.window_s)}])))"
    return found if query.per is None else f"{found} / {expression(query.per)}"


def condition(one: Condition) -> str:
    """*one* as PromQL: a result where it holds."""
    found = f"{expression(one.query)} > {one.above:g}"
    return found if one.enough is None else f"({found}) and ({expression(one.enough)} > {one.enough_above:g})"


def selector(name: str, where: tuple[Where, ...]) -> str:
    """``name{label="value"}``."""
    matchers = ",".join(_matcher(one) for one in where)
    return f"{name}{{{matchers}}}" if matchers else name


def _matcher(where: Where) -> str:
    if len(where.globs) == 1 and "*" not in where.globs[0]:
        return f'{where.label}{"!=" if where.negate else "="}"{where.globs[0]}"'
    pattern = "|".join(re.escape(glob).replace(r"\*", ".*").replace("\\", "\\\\") for glob in where.globs)
    return f'{where.label}{"!~" if where.negate else "=~"}"{pattern}"'


def _grown(series: str, seconds: int) -> str:
    """How much counters grew in the last *seconds*; one that is new then has grown from nothing.

    Not `increase`: it sees nothing of the first value of a series, and a counter's first value is often all there is.
    After a restart a series begins anew (`service.instance.id`).
    """
    window = _window(seconds)
    return f"({series} - {series} offset {window} >= 0) or ({series} unless {series} offset {window})"


def _window(seconds: int) -> str:
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
