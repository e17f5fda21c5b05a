"""Funnels, features, KPIs and rollouts: `business_metrics`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from otel_sentry import ambient, guard, runtime
from otel_sentry.business import metrics, rollouts, users
from otel_sentry.errors import user_fields
from otel_sentry.logs import value_of
from otel_sentry.privacy import cut

#: Numbers, and strings that are labels, of one call.
_MAX_FIELDS = 20


class BusinessMetrics:
    """What `otel_sentry.business_metrics` is. Each call is counted whatever the sampling of traces says, never raises,
    and costs the caller some microseconds.

    Numbers in a call's data become distributions, by field; strings become labels of the counter where
    ``OTEL_SENTRY_METRIC_LABELS`` lists their names; the rest is left out. A *user_id* is counted (distinct users a
    day), never sent; by default it is that of the current user (`set_user`).
    """

    @guard.call("track_conversion_funnel")
    def track_conversion_funnel(
        self,
        funnel_name: str,
        step: str,
        user_id: Any = None,
        conversion_data: Mapping[str, Any] | None = None,
    ) -> None:
        """Somebody got to *step* of a funnel: ``funnel.step``, ``funnel.users`` and ``funnel.value``."""
        labels = {"funnel": _text(funnel_name), "step": _text(step)}
        _track("funnel", "step", labels, labels, user_id, conversion_data)

    @guard.call("track_feature_usage")
    def track_feature_usage(
        self,
        feature_name: str,
        usage_type: str,
        user_id: Any = None,
        usage_data: Mapping[str, Any] | None = None,
    ) -> None:
        """A feature was used: ``feature.used``, ``feature.users`` and ``feature.value``."""
        feature = {"feature": _text(feature_name)}
        _track("feature", "used", {**feature, "usage": _text(usage_type)}, feature, user_id, usage_data)

    @guard.call("track_kpi")
    def track_kpi(
        self,
        name: str,
        value: float,
        unit: str | None = None,
        target: float | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """A KPI is *value* now: ``kpi.value``, ``kpi.target`` and ``kpi.data``.

        Args:
            name: the KPI.
            value: what it is.
            unit: in words of your own, e.g. ``EUR``; a label.
            target: what it should be.
            data: more numbers.

        """
        if runtime.get() is None:
            return
        kpi = {"kpi": _text(name)}
        labels = {**kpi, "unit": None if unit is None else _text(unit)}
        here = time.time(), otel_context.get_current()
        metrics.later(metrics.record, "gauge", "kpi.value", value, None, labels, *here)
        if target is not None:
            metrics.later(metrics.record, "gauge", "kpi.target", target, None, labels, *here)
        if data:
            metrics.later(_numbers, "kpi.data", kpi, _copied(data), *here)

    @guard.call("track_rollout")
    def track_rollout(
        self,
        feature_name: str,
        variant: Any,
        user_id: Any = None,
        percentage: float | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """*variant* of a feature is at work: ``rollout.exposure``, ``rollout.users`` and ``rollout.value``.

        To the end of the request or task its errors carry the variant (Sentry's feature flags, tag
        ``rollout.<feature>``), and ``app.errors`` and ``business.operation.duration`` the label ``rollout``.

        Args:
            feature_name: what is rolled out.
            variant: a name, or True and False.
            user_id: who got it.
            percentage: the share of users it is rolled out to, 0 to 100.
            data: more numbers.

        """
        labels = {"feature": _text(feature_name), "variant": _text(variant)}
        rollouts.note(labels["feature"], labels["variant"])
        _track("rollout", "exposure", labels, labels, user_id, data)
        if percentage is not None:
            metrics.gauge("rollout.percentage", percentage, "%", feature=labels["feature"])

    @guard.call("declare_funnel")
    def declare_funnel(self, name: str, steps: Iterable[str]) -> None:
        """Say in which order the steps of a funnel come; ``funnel.drop_off`` tells what each one loses."""
        users.declare(_text(name), tuple(_text(step) for step in islice(steps, 50)))


business_metrics = BusinessMetrics()


def _text(value: Any) -> str:
    if type(value) is str:
        return cut(value, 200)
    return str(value).lower() if type(value) is bool else cut(str(value_of(value)), 200)


def _copied(data: Any) -> dict[str, Any]:
    """*data* as it is now; the caller may change it. What is no mapping is none."""
    return dict(data) if isinstance(data, Mapping) else {}


def _track(
    family: str, counter: str, labels: dict[str, str], by: dict[str, str], user_id: Any, data: Mapping[str, Any] | None
) -> None:
    if runtime.get() is None:
        return
    arguments = (family, counter, labels, by, _id(user_id), _copied(data), time.time(), otel_context.get_current())
    metrics.later(_record, *arguments)


def _id(user: Any) -> str | None:
    if user is None:
        known = ambient.current().user
        user = known.get("id") if known else None
    if type(user) is str or type(user) is int:
        return str(user)
    if user is None:
        return None
    found = (user_fields(user) or {}).get("id")
    return None if found is None else str(found)


def _record(
    family: str,
    counter: str,
    labels: dict[str, str],
    by: dict[str, str],
    user: str | None,
    data: dict[str, Any],
    at: float,
    context: Context,
) -> None:
    """Where the caller no longer waits."""
    metrics.record("counter", f"{family}.{counter}", 1, None, {**_labels(data), **labels}, at, context)
    _numbers(f"{family}.value", by, data, at, context)
    if user is not None:
        users.note(f"{family}.users", by, user, at)


def _numbers(metric: str, by: dict[str, str], data: dict[str, Any], at: float, context: Context) -> None:
    found = 0
    for field, value in data.items():
        if isinstance(value, bool) or metrics.number(value) is None or isinstance(value, str):
            continue
        found += 1
        if found > _MAX_FIELDS:
            break
        metrics.record("distribution", metric, value, None, {**by, "field": _text(field)}, at, context)


def _labels(data: dict[str, Any]) -> dict[str, str]:
    current = runtime.get()
    if current is None or not data:
        return {}
    return {name: data[name] for name in current.settings.metric_labels if isinstance(data.get(name), str)}
