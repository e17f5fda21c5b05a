"""Metrics, thresholds, alerts and panels, once (business.md 7). Plain data: the files of every backend are made from it
by `otel_sentry.business.render`, and ``otel-sentry report`` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, DISTRIBUTION = "counter", "gauge", "distribution"


@dataclass(frozen=True)
class Metric:
    """One metric that the library emits. *unit* in UCUM, None: a plain number.

    *from_spans*: Sentry has the same from its spans, so that its metric items are written with
    ``OTEL_SENTRY_METRICS=all`` only. *daily*: the store keeps it per day, for the report.
    """

    name: str
    kind: str
    unit: str | None
    labels: tuple[str, ...]
    doc: str
    from_spans: bool = False
    daily: bool = False


METRICS = {
    metric.name: metric
    for metric in (
        Metric("app.request.duration", DISTRIBUTION, "s", ("route", "module", "outcome"),
               "Requests served; outcome error: status 500 and above.", from_spans=True, daily=True),
        Metric("request.slow", COUNTER, None, ("route",), "Requests past OTEL_SENTRY_VERY_SLOW_REQUEST_MS."),
        Metric("task.slow", COUNTER, None, ("task",), "Tasks past their threshold."),
        Metric("operation.slow", COUNTER, None, ("operation",), "`monitor_performance` past its threshold."),
        Metric("query.slow", COUNTER, None, ("system", "operation"), "Queries past OTEL_SENTRY_SLOW_QUERY_MS."),
        Metric("query.n_plus_one", COUNTER, None, ("root",), "Requests and tasks that ran one query again and again."),
        Metric("external.slow", COUNTER, None, ("host", "method"),
               "Outgoing requests past OTEL_SENTRY_SLOW_EXTERNAL_MS."),
        Metric("app.task.duration", DISTRIBUTION, "s", ("task", "outcome"),
               "Tasks run.", from_spans=True, daily=True),
        Metric("app.task.failures", COUNTER, None, ("task",), "Tasks that raised."),
        Metric("app.database.duration", DISTRIBUTION, "s", ("module",),
               "Time in the database of one request or task, all its queries together.", from_spans=True),
        Metric("app.errors", COUNTER, None, ("module", "kind", "connection", "rollout"),
               "Errors that became issues; kind as in `convention.kinds`, connection true: the server was not reached.",
               daily=True),
        Metric("auth.login", COUNTER, None, ("outcome",),
               "Logins: ok, failed, or error (an authentication backend raised).", daily=True),
        Metric("security.incident", COUNTER, None, ("kind",), "Security patterns that were met.", daily=True),
        Metric("business.operation.duration", DISTRIBUTION, "s", ("operation", "module", "outcome", "rollout"),
               "`tag_business_operation`; outcome ok or error.", daily=True),
        Metric("business.alert", COUNTER, None, ("type", "severity"), "Alerts raised by the program."),
        Metric("business.alert.delivery", COUNTER, None, ("sink", "outcome"), "Their delivery: sent or failed."),
        Metric("journey.step", COUNTER, None, ("name", "step"), "Steps of journeys."),
        Metric("journey.step.duration", DISTRIBUTION, "s", ("name", "step"), "How long a step lasted."),
        Metric("journey.drop_off", COUNTER, None, ("name", "step"), "Last steps of journeys that were not completed."),
        Metric("journey.completed", COUNTER, None, ("name", "outcome"),
               "Journeys that ended: completed, failed or abandoned.", daily=True),
        Metric("journey.duration", DISTRIBUTION, "s", ("name", "outcome"), "From a journey's start to its end."),
        Metric("funnel.step", COUNTER, None, ("funnel", "step"), "Calls of track_conversion_funnel.", daily=True),
        Metric("funnel.users", GAUGE, None, ("funnel", "step"), "Distinct users at a step, today (UTC)."),
        Metric("funnel.drop_off", GAUGE, "1", ("funnel", "step"),
               "Share of the previous step's users who have not got to this one, today; for declared funnels."),
        Metric("funnel.value", DISTRIBUTION, None, ("funnel", "step", "field"), "Numbers in conversion_data."),
        Metric("feature.used", COUNTER, None, ("feature", "usage"), "Calls of track_feature_usage.", daily=True),
        Metric("feature.users", GAUGE, None, ("feature",), "Distinct users of a feature, today (UTC).", daily=True),
        Metric("feature.value", DISTRIBUTION, None, ("feature", "field"), "Numbers in usage_data."),
        Metric("kpi.value", GAUGE, None, ("kpi", "unit"), "The last value of a KPI."),
        Metric("kpi.target", GAUGE, None, ("kpi", "unit"), "Its target."),
        Metric("kpi.data", DISTRIBUTION, None, ("kpi", "field"), "Numbers in track_kpi's data."),
        Metric("rollout.exposure", COUNTER, None, ("feature", "variant"), "Calls of track_rollout."),
        Metric("rollout.users", GAUGE, None, ("feature", "variant"), "Distinct users of a variant, today (UTC)."),
        Metric("rollout.percentage", GAUGE, "%", ("feature",), "The share that is rolled out, as the program says."),
        Metric("rollout.value", DISTRIBUTION, None, ("feature", "variant", "field"), "Numbers in its data."),
    )
}  # fmt: skip

#: Setting -> default (business.md 5), in milliseconds.
THRESHOLDS = {
    "slow_request_ms": 2_000.0,
    "very_slow_request_ms": 5_000.0,
    "slow_query_ms": 500.0,
    "slow_task_ms": 30_000.0,
    "slow_external_ms": 3_000.0,
}


@dataclass(frozen=True)
class Where:
    """Label matches one of *globs* (``payment*``), or none of them."""

    label: str
    globs: tuple[str, ...]
    negate: bool = False


@dataclass(frozen=True)
class Query:
    """What a metric was within *window_s* seconds.

    *how*: "count" (of a counter, or of a distribution's values), "p50" to "p99" of a distribution, "last" of a gauge.
    *per*: divided by that one.
    """

    metric: str
    how: str
    by: tuple[str, ...] = ()
    where: tuple[Where, ...] = ()
    per: Query | None = None
    window_s: int = 300


@dataclass(frozen=True)
class Condition:
    """*query* is above *above*, and *enough* (if given) above *enough_above*."""

    query: Query
    above: float
    enough: Query | None = None
    enough_above: float = 0.0


@dataclass(frozen=True)
class Alert:
    """One of *any_of* holds, for *for_s* seconds. Level info: no rule, but the report and panels."""

    name: str
    title: str
    level: str
    doc: str
    any_of: tuple[Condition, ...] = ()
    for_s: int = 0


@dataclass(frozen=True)
class Panel:
    """A chart. *unit*: "s", "1" (a share), or None for numbers."""

    title: str
    unit: str | None
    queries: tuple[tuple[str, Query], ...]
    doc: str = ""


#: Names that SECURITY's patterns begin with, when they are attacks; the others are suspicious users.
_ATTACKS = ("brute_force*", "suspicious*")
_ERROR = (Where("outcome", ("error",)),)
_LOGINS = Query("auth.login", "count")
_FAILED_LOGINS = Query("auth.login", "count", where=(Where("outcome", ("failed", "error")),))
_ERROR_RATE = Query("app.errors", "count", ("module",), per=Query("app.request.duration", "count", ("module",)))

ALERTS = (
    Alert(
        "authentication_failures", "Authentication system failures", "critical",
        "An authentication backend raised, or more than half of at least 20 logins in 5 minutes failed.",
        (
            Condition(Query("auth.login", "count", where=_ERROR), 0),
            Condition(Query("auth.login", "count", where=_FAILED_LOGINS.where, per=_LOGINS), 0.5, _LOGINS, 19),
        ),
    ),
    Alert(
        "database_connection", "Database connection errors", "critical",
        "Three errors in a minute that say that the database was not reached.",
        (Condition(Query("app.errors", "count", window_s=60, where=(
            Where("kind", ("database",)), Where("connection", ("true",)))), 2),),
    ),
    Alert(
        "payment_failures", "Payment processing failures", "critical",
        "A business operation whose name begins with payment failed.",
        (Condition(Query("business.operation.duration", "count", ("operation",),
                         (Where("operation", ("payment*",)), *_ERROR)), 0),),
    ),
    Alert(
        "security_breach", "Security breach attempts", "critical",
        "Brute force, or repeated suspicious operations.",
        (Condition(Query("security.incident", "count", ("kind",), (Where("kind", _ATTACKS),)), 0),),
    ),
    Alert(
        "slow_responses", "Slow API responses", "warning",
        "95 % of a route's requests took up to more than 2 s, for 5 minutes.",
        (Condition(Query("app.request.duration", "p95", ("route",)), THRESHOLDS["slow_request_ms"] / 1000),), 300,
    ),
    Alert(
        "error_rate", "Elevated error rates", "warning",
        "More than 5 errors for 100 requests of a module, for 5 minutes.",
        (Condition(_ERROR_RATE, 0.05),), 300,
    ),
    Alert(
        "failed_tasks", "Failed Celery tasks", "warning",
        "A task raised within 5 minutes.",
        (Condition(Query("app.task.failures", "count", ("task",)), 0),),
    ),
    Alert(
        "suspicious_activity", "Suspicious user activity", "warning",
        "Any other security pattern: bursts of 403 or 404, an account from a new address after failures.",
        (Condition(Query("security.incident", "count", ("kind",), (Where("kind", _ATTACKS, negate=True),)), 0),),
    ),
    Alert(
        "weekly_review", "Feature usage, performance trends, user behaviour", "info",
        "`otel-sentry report --days 7`, and the panels.",
    ),
)  # fmt: skip

PANELS = (
    Panel("Error rate by module", "1", (("{module}", _ERROR_RATE),)),
    Panel("Authentication failure rate", "1", (
        ("failed", Query("auth.login", "count", where=_FAILED_LOGINS.where, per=Query("auth.login", "count"))),
    )),
    Panel("Business operation errors", None, (
        ("{operation}", Query("business.operation.duration", "count", ("operation",), _ERROR)),
    )),
    Panel("Security incidents", None, (("{kind}", Query("security.incident", "count", ("kind",))),)),
    Panel("Response time by endpoint", "s", tuple(
        (f"{how} {{route}}", Query("app.request.duration", how, ("route",))) for how in ("p50", "p95", "p99")
    )),
    Panel("Database time of a request or task", "s", (
        ("p95 {module}", Query("app.database.duration", "p95", ("module",))),
    )),
    Panel("Celery task time", "s", (("p95 {task}", Query("app.task.duration", "p95", ("task",))),)),
    Panel("Celery task failures", None, (("{task}", Query("app.task.failures", "count", ("task",))),)),
    Panel("Requests over 5 s", None, (("{route}", Query("request.slow", "count", ("route",))),)),
    Panel("Registration conversion", None, (
        ("{funnel} {step}", Query("funnel.users", "last", ("funnel", "step"),
                                  (Where("funnel", ("*registration*", "*onboarding*", "*signup*", "*sign_up*")),))),
    ), "Distinct users at each step, today."),
    Panel("Post creation success", "1", (
        ("{operation}", Query("business.operation.duration", "count", ("operation",), (
            Where("operation", ("post_creation*",)), Where("outcome", ("ok",))),
            per=Query("business.operation.duration", "count", ("operation",), (
                Where("operation", ("post_creation*",)),)))),
    )),
    Panel("Feature adoption", None, (("{feature}", Query("feature.users", "last", ("feature",))),),
          "Distinct users of each feature, today."),
    Panel("Journey completion", "1", (
        ("{name}", Query("journey.completed", "count", ("name",), (Where("outcome", ("completed",)),),
                         per=Query("journey.completed", "count", ("name",)))),
    )),
)  # fmt: skip


def queries() -> list[Query]:
    """Every query of the alerts and panels, those that are divided by included."""
    found = [query for panel in PANELS for _, query in panel.queries]
    for alert in ALERTS:
        for condition in alert.any_of:
            found += [condition.query] + ([condition.enough] if condition.enough else [])
    return found + [query.per for query in found if query.per is not None]
