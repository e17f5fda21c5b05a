"""Every setting, once: name, environment variables, type, default, meaning.

The loader, ``otel-sentry config``, the tables in the docs and the error messages are all made from the fields of
`Settings`. Order of precedence: argument of `configure` > environment variable > preset of the environment > default.
A value that does not parse is reported in one line (`Settings.problems`) and the default is used.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from otel_sentry import parse
from otel_sentry.business import thresholds
from otel_sentry.detect import environment_of, release_of, resource_attributes, server_name_of
from otel_sentry.trace import rules, slow

Hook = Callable[..., Any]


@dataclass(frozen=True)
class Setting:
    """One row of the table. *parse* turns text into the value and raises ValueError with what was expected."""

    doc: str
    env: tuple[str, ...] = ()
    parse: Callable[[str], Any] = str
    default_text: str = ""
    secret: bool = False


def _row(
    default: Any, doc: str, *env: str, parse: Callable[[str], Any] = str, shown: str | None = None, secret: bool = False
) -> Any:
    text = shown if shown is not None else parse_default(default)
    return field(default=default, metadata={"row": Setting(doc, env, parse, text, secret)})


def parse_default(value: Any) -> str:
    """How a default is written in the table."""
    if value is None or value == ():
        return "unset"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, eq=False)
class Settings:
    """The effective settings. Made by `load`; immutable, and hashed by identity."""

    # What and where
    dsn: str | None = _row(None, "Sentry project DSN. Alone it is a working set-up.", "SENTRY_DSN", secret=True)
    environment: str = _row(
        "production",
        "Deployment environment, on everything sent. Chooses the preset of the rates.",
        "SENTRY_ENVIRONMENT",
        "ENVIRONMENT",
        shown="`deployment.environment.name` of the resource, else development under runserver, else production",
    )
    release: str | None = _row(
        None,
        "Release, on everything sent.",
        "SENTRY_RELEASE",
        shown="`service.version` of the resource, else the git commit, else the CI's variable",
    )
    auto_session_tracking: bool = _row(
        True,
        "Release health: count the requests served, those with errors and those that crashed.",
        "SENTRY_AUTO_SESSION_TRACKING",
        parse=parse.boolean,
        shown="true where a release is known",
    )
    dist: str | None = _row(None, "Distribution within a release.", "SENTRY_DIST")
    service_name: str = _row(
        "unknown_service", "Service name.", "OTEL_SERVICE_NAME", shown="`service.name` of the resource"
    )
    server_name: str = _row("", "Host name on events.", "SENTRY_SERVER_NAME", shown="the host's name")
    debug: bool = _row(
        False,
        "Say more on stderr: tracebacks of faults that were swallowed, a backend that came back.",
        "SENTRY_DEBUG",
        parse=parse.boolean,
        shown="true in development",
    )

    # How much
    traces_sample_rate: float = _row(
        0.1,
        "Share of root traces sent to Sentry, 0 to 1.",
        "SENTRY_TRACES_SAMPLE_RATE",
        parse=parse.rate,
        shown="1.0 development, 0.5 staging, 0.1 production",
    )
    traces_sampler: Hook | None = _row(
        None, "Function that returns the rate of a root.", "OTEL_SENTRY_TRACES_SAMPLER", parse=parse.hook
    )
    sample_rate: float = _row(1.0, "Share of error events sent, 0 to 1.", "SENTRY_SAMPLE_RATE", parse=parse.rate)
    profiles_sample_rate: float = _row(
        0.05,
        "Share of sampled requests and tasks that carry a profile, 0 to 1.",
        "SENTRY_PROFILES_SAMPLE_RATE",
        parse=parse.rate,
        shown="1.0 development, 0.3 staging, 0.05 production",
    )
    profile_session_sample_rate: float | None = _row(
        None,
        "Share of processes that are profiled all the time, from their first sampled request or task on.",
        "SENTRY_PROFILE_SESSION_SAMPLE_RATE",
        parse=parse.rate,
    )
    ignore_transactions: tuple[str, ...] = _row(
        (),
        "Regular expressions; a root whose name or path matches one is not sent.",
        "OTEL_SENTRY_IGNORE_TRANSACTIONS",
        parse=parse.patterns,
    )
    default_ignores: bool = _row(
        True,
        "Leave out health checks (by path or caller) and static files.",
        "OTEL_SENTRY_DEFAULT_IGNORES",
        parse=parse.boolean,
    )
    ignore_spans: tuple[str, ...] = _row(
        (),
        "Spans below a root that are not sent, e.g. `name=connect,op=db.redis&attr.db.namespace=1*` (`&`: all hold).",
        "OTEL_SENTRY_IGNORE_SPANS",
        parse=rules.span_rules,
    )
    keep: rules.Keep | None = _row(
        None,
        "Segments kept whole although sampling left them out: `error`, `slow>2s` or both.",
        "OTEL_SENTRY_KEEP",
        parse=rules.keep,
    )

    # Privacy
    send_default_pii: bool = _row(
        False, "Send e-mail, user name, IP address, cookies.", "SENTRY_SEND_DEFAULT_PII", parse=parse.boolean
    )
    scrub_keys: tuple[str, ...] = _row(
        (),
        "Further names of secrets, by their words: `customer_ref` is in `order.customerRef` too.",
        "OTEL_SENTRY_SCRUB_KEYS",
        parse=parse.names,
    )
    scrub_values: tuple[str, ...] = _row(
        (),
        "Regular expressions, with blanks between them (`\\s` inside); what matches is filtered, in every text.",
        "OTEL_SENTRY_SCRUB_VALUES",
        parse=parse.words,
    )
    scrub_allow: tuple[str, ...] = _row(
        (),
        "Names that look like a secret's and are none: whole, or the part after the last dot.",
        "OTEL_SENTRY_SCRUB_ALLOW",
        parse=parse.names,
    )

    # Errors
    log_errors: bool = _row(
        True,
        "ERROR log records without exc_info become message events.",
        "OTEL_SENTRY_LOG_ERRORS",
        parse=parse.boolean,
    )
    logs: bool = _row(False, "Send log records to Sentry's logs.", "OTEL_SENTRY_LOGS", parse=parse.boolean)
    logs_level: str = _row(
        "info",
        "From which level, for all backends.",
        "OTEL_SENTRY_LOGS_LEVEL",
        parse=parse.choice("debug", "info", "warning", "error", "critical"),
    )
    metrics: str = _row(
        "business",
        "Metrics sent to Sentry: off, those of business calls, or all of OpenTelemetry's too.",
        "OTEL_SENTRY_METRICS",
        parse=parse.choice("off", "business", "all"),
    )
    recorded_exceptions: str = _row(
        "explicit",
        "Which `span.record_exception` calls become issues: none, explicit (your own spans), all.",
        "OTEL_SENTRY_RECORDED_EXCEPTIONS",
        parse=parse.choice("none", "explicit", "all"),
    )
    group_by: tuple[str, ...] = _row(
        ("operation", "kind", "presets"),
        "What tells issues apart beside the stack trace: `operation`, `kind` of error, user `action` (journey step, "
        "operation or route), `who` (type of user); `presets`: one issue for a server that is away, an upstream's 5xx, "
        "a database constraint; `0`: nothing.",
        "OTEL_SENTRY_GROUP_BY",
        parse=parse.subset("operation", "kind", "action", "who", "presets"),
    )
    fingerprints: Any = _row(
        None,
        'Your own grouping: rules such as `type:ReadTimeout message:"*quota*" -> quota` (matchers type, message, '
        "operation, kind; `;` between rules), or a function of event and exception, which returns a list or None.",
        "OTEL_SENTRY_FINGERPRINTS",
        parse=parse.fingerprints,
    )
    user_type: Any = _row(
        None,
        "A user's type: the name of an attribute of the user object, or a function that is given it.",
        "OTEL_SENTRY_USER_TYPE",
        parse=parse.user_type,
        shown="admin for staff and superusers, anonymous, else the user's own `user_type`, else customer",
    )
    max_breadcrumbs: int = _row(
        100, "Breadcrumbs on an error event.", "SENTRY_MAX_BREADCRUMBS", parse=parse.whole(0, 1000)
    )
    ignore_errors: tuple[Any, ...] = _row(
        (), "Exception types (names) that never become issues.", "SENTRY_IGNORE_ERRORS", parse=parse.names
    )
    in_app_include: tuple[str, ...] = _row(
        (), "Modules whose frames count as yours.", "SENTRY_IN_APP_INCLUDE", parse=parse.names
    )
    in_app_exclude: tuple[str, ...] = _row(
        (), "Modules whose frames do not count as yours.", "SENTRY_IN_APP_EXCLUDE", parse=parse.names
    )

    # Hooks, as `package.module:function` in the environment
    before_send: Hook | None = _row(
        None, "Called with each error event; None drops it.", "OTEL_SENTRY_BEFORE_SEND", parse=parse.hook
    )
    before_send_transaction: Hook | None = _row(
        None, "The same for transactions.", "OTEL_SENTRY_BEFORE_SEND_TRANSACTION", parse=parse.hook
    )
    before_breadcrumb: Hook | None = _row(
        None, "The same for breadcrumbs.", "OTEL_SENTRY_BEFORE_BREADCRUMB", parse=parse.hook
    )
    before_send_log: Hook | None = _row(
        None, "The same for Sentry logs.", "OTEL_SENTRY_BEFORE_SEND_LOG", parse=parse.hook
    )
    before_send_metric: Hook | None = _row(
        None, "The same for Sentry metrics.", "OTEL_SENTRY_BEFORE_SEND_METRIC", parse=parse.hook
    )
    span_processors: tuple[Any, ...] = _row(
        (),
        "Your own span processors (`package.module:Class`); they run before ours.",
        "OTEL_SENTRY_SPAN_PROCESSORS",
        parse=parse.names,
    )

    # Propagation
    trace_propagation_targets: tuple[str, ...] = _row(
        (".*",),
        "Regular expressions of the URLs that get trace headers.",
        "OTEL_SENTRY_TRACE_PROPAGATION_TARGETS",
        parse=parse.patterns,
    )
    strict_trace_continuation: bool = _row(
        False,
        "Continue a trace only if both sides name the same organisation.",
        "SENTRY_STRICT_TRACE_CONTINUATION",
        parse=parse.boolean,
    )
    org_id: str | None = _row(None, "Sentry organisation id.", "SENTRY_ORG_ID", shown="from the DSN's host")
    w3c_parent: str = _row(
        "defer",
        "A bare `traceparent`: decide by our own rate (defer) or take its flag (decision).",
        "OTEL_SENTRY_W3C_PARENT",
        parse=parse.choice("defer", "decision"),
    )

    # Frameworks
    django_transaction_style: str = _row(
        "otel",
        "Transaction names as OTel (`GET /users/<int:pk>/`) or as sentry-python writes them (`/users/{pk}/`).",
        "OTEL_SENTRY_DJANGO_TRANSACTION_STYLE",
        parse=parse.choice("otel", "sentry"),
    )
    django_middleware: str = _row(
        "own",
        "Who makes the server span: our middleware (streaming bodies, ASGI disconnects, less work), or contrib's.",
        "OTEL_SENTRY_DJANGO_MIDDLEWARE",
        parse=parse.choice("own", "contrib"),
    )
    django_template_spans: bool = _row(
        True, "Spans for rendered templates.", "OTEL_SENTRY_DJANGO_TEMPLATE_SPANS", parse=parse.boolean
    )
    django_middleware_spans: bool = _row(
        False, "Spans for each of Django's middlewares.", "OTEL_SENTRY_DJANGO_MIDDLEWARE_SPANS", parse=parse.boolean
    )
    trusted_proxies: tuple[str, ...] = _row(
        (),
        "Proxies whose `X-Forwarded-For` is believed: their number, or their addresses and networks. "
        "Else the client's address is the connection's.",
        "OTEL_SENTRY_TRUSTED_PROXIES",
        parse=parse.proxies,
    )
    django_cache_spans: bool = _row(
        True,
        "Spans for Django's cache framework, with keys, hits and sizes.",
        "OTEL_SENTRY_DJANGO_CACHE_SPANS",
        parse=parse.boolean,
    )
    celery_context: tuple[str, ...] = _row(
        ("user.id", "user_type", "operation", "module", "journey"),
        "What a Celery message tells its task of user and operation; `0`: nothing. Also known: `user.email`, "
        "`user.username`, `user.ip_address`, `details`.",
        "OTEL_SENTRY_CELERY_CONTEXT",
        parse=parse.allow_list,
    )
    celery_trace: tuple[tuple[str, str], ...] = _row(
        (),
        "A task's trace: `child` of its publisher's, `new`, or new with a `link`; by task: `reports.*=new,link`.",
        "OTEL_SENTRY_CELERY_TRACE",
        parse=parse.task_policies,
        shown="child",
    )
    celery_broker_spans: bool = _row(
        False,
        "Spans of Celery's own commands: polling, what publishing a task takes, beat's look at its schedule.",
        "OTEL_SENTRY_CELERY_BROKER_SPANS",
        parse=parse.boolean,
    )
    crons: bool = _row(
        True,
        "Check-ins for the tasks that Celery's beat starts (Sentry Crons).",
        "OTEL_SENTRY_CRONS",
        parse=parse.boolean,
    )
    crons_exclude: tuple[str, ...] = _row(
        (r"^celery\.",),
        "Regular expressions; a beat entry whose name matches one has no check-ins.",
        "OTEL_SENTRY_CRONS_EXCLUDE",
        parse=parse.patterns,
    )
    cache_prefixes: tuple[str, ...] = _row(
        (),
        "Redis keys that begin so are a cache: their commands get cache spans, which show the keys.",
        "OTEL_SENTRY_CACHE_PREFIXES",
        parse=parse.names,
    )
    sqlcommenter: bool = _row(
        False,
        "Add a comment with `traceparent` to statements (psycopg, psycopg2), for `pg_stat_activity` and server logs.",
        "OTEL_SENTRY_SQLCOMMENTER",
        parse=parse.boolean,
    )
    take_over_init: bool = _row(
        True,
        "An app that calls `sentry_sdk.init` itself keeps its options, ours keep the transport.",
        "OTEL_SENTRY_TAKE_OVER_INIT",
        parse=parse.boolean,
    )

    # Alerts
    alert_sinks: tuple[str, ...] = _row(
        (),
        "Where alerts go beside Sentry, by severity: `critical=pagerduty+slack,error=slack,warning=email,webhook`. "
        "A sink without a severity is for all.",
        "OTEL_SENTRY_ALERT_SINKS",
        parse=parse.alert_sinks,
    )
    alert_window: float = _row(
        300.0, "Seconds in which the same alert (type and message) is raised once.", "OTEL_SENTRY_ALERT_WINDOW",
        parse=parse.number(0, 86_400),
    )  # fmt: skip
    alert_rate: int = _row(30, "Alerts a minute, in all.", "OTEL_SENTRY_ALERT_RATE", parse=parse.whole(1, 10_000))
    slack_webhook_url: str | None = _row(
        None, "Slack's incoming webhook, for the sink `slack`.", "OTEL_SENTRY_SLACK_WEBHOOK_URL", secret=True
    )
    pagerduty_routing_key: str | None = _row(
        None, "Integration key (Events API v2) of a PagerDuty service, for the sink `pagerduty`.",
        "OTEL_SENTRY_PAGERDUTY_ROUTING_KEY", secret=True,
    )  # fmt: skip
    pagerduty_url: str = _row(
        "https://events.pagerduty.com/v2/enqueue",
        "PagerDuty's intake; in the EU `https://events.eu.pagerduty.com/v2/enqueue`.",
        "OTEL_SENTRY_PAGERDUTY_URL",
    )
    alert_webhook_url: str | None = _row(
        None, "URL that gets alerts as JSON, for the sink `webhook`.", "OTEL_SENTRY_ALERT_WEBHOOK_URL", secret=True
    )
    smtp_url: str | None = _row(
        None, "Mail server for the sink `email`: `smtp://user:password@host:587`, or `smtps://` (TLS from the start).",
        "OTEL_SENTRY_SMTP_URL", secret=True,
    )  # fmt: skip
    smtp_starttls: bool = _row(
        True, "Mail by `smtp://` only over STARTTLS.", "OTEL_SENTRY_SMTP_STARTTLS", parse=parse.boolean
    )
    alert_email_to: tuple[str, ...] = _row(
        (), "Who gets alerts by e-mail.", "OTEL_SENTRY_ALERT_EMAIL_TO", parse=parse.names
    )
    alert_email_from: str | None = _row(
        None, "Their sender.", "OTEL_SENTRY_ALERT_EMAIL_FROM", shown="the first of them"
    )
    web_url: str | None = _row(
        None, "Your organisation in Sentry's web interface, e.g. `https://acme.sentry.io`: links in alerts begin so.",
        "OTEL_SENTRY_WEB_URL",
    )  # fmt: skip

    # Delivery
    spotlight: str | None = _row(
        None, "Spotlight's URL, or 1 for its default.", "SENTRY_SPOTLIGHT", parse=parse.spotlight
    )
    http_proxy: str | None = _row(None, "Proxy for http.", "HTTP_PROXY", "http_proxy", secret=True)
    https_proxy: str | None = _row(None, "Proxy for https.", "HTTPS_PROXY", "https_proxy", secret=True)
    ca_certs: str | None = _row(None, "Path of a CA bundle.", "SENTRY_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    shutdown_timeout: float = _row(
        2.0, "Seconds that exit may take for all that is left to send.", "OTEL_SENTRY_SHUTDOWN_TIMEOUT",
        parse=parse.number(0, 60),
    )  # fmt: skip
    queue_size: int = _row(
        4096, "Envelopes kept while the backend is away.", "OTEL_SENTRY_QUEUE_SIZE", parse=parse.whole(1, 1_000_000)
    )
    queue_bytes: int = _row(
        32_000_000, "Bytes kept while the backend is away.", "OTEL_SENTRY_QUEUE_BYTES", parse=parse.whole(10_000, 2**34)
    )
    late_grace: float = _row(
        0.1, "Seconds a finished root waits for children that end after it.", "OTEL_SENTRY_LATE_GRACE",
        parse=parse.number(0, 60),
    )  # fmt: skip
    max_spans: int = _row(1000, "Spans in a transaction.", "OTEL_SENTRY_MAX_SPANS", parse=parse.whole(1, 1000))
    max_segment_bytes: int = _row(
        900_000, "Bytes of a transaction (Sentry refuses 1 MiB).", "OTEL_SENTRY_MAX_SEGMENT_BYTES",
        parse=parse.whole(10_000, 1_000_000),
    )  # fmt: skip
    trace_format: str = _row(
        "transaction",
        "How traces go to Sentry: as transactions, as single spans (span v2), or by OTLP to the DSN's own OTLP intake.",
        "OTEL_SENTRY_TRACE_FORMAT",
        parse=parse.choice("transaction", "span", "otlp"),
    )
    overflow: str = _row(
        "auto",
        "What does not fit into a transaction leaves as single spans (span), or the least telling spans are dropped "
        "and counted (drop); auto: span with Sentry's own service, drop elsewhere.",
        "OTEL_SENTRY_OVERFLOW",
        parse=parse.choice("auto", "span", "drop"),
    )
    max_open_spans: int = _row(
        100_000, "Unfinished spans that are kept track of.", "OTEL_SENTRY_MAX_OPEN_SPANS", parse=parse.whole(100, 10**8)
    )

    # Slow (business.md 5); milliseconds
    slow_request_ms: float = _row(
        2000.0, "From how many ms a request is slow.", "OTEL_SENTRY_SLOW_REQUEST_MS", parse=parse.number(0, 1e9)
    )
    very_slow_request_ms: float = _row(
        5000.0,
        "From how many ms it counts in the metric `request.slow`.",
        "OTEL_SENTRY_VERY_SLOW_REQUEST_MS",
        parse=parse.number(0, 1e9),
    )
    slow_task_ms: float = _row(30_000.0, "The same for a task.", "OTEL_SENTRY_SLOW_TASK_MS", parse=parse.number(0, 1e9))
    slow_query_ms: float = _row(
        500.0, "The same for a database query.", "OTEL_SENTRY_SLOW_QUERY_MS", parse=parse.number(0, 1e9)
    )
    slow_external_ms: float = _row(
        3000.0, "The same for an outgoing request.", "OTEL_SENTRY_SLOW_EXTERNAL_MS", parse=parse.number(0, 1e9)
    )
    slow_ms: tuple[tuple[str, float], ...] = _row(
        (),
        "The same for single routes, tasks and operations: `/reports/*=8000,posts.tasks.*=60000`; the first wins.",
        "OTEL_SENTRY_SLOW_MS",
        parse=slow.by_name,
    )
    slow_as_issue: bool = _row(
        False,
        "Slow requests, tasks and monitored blocks become issues too.",
        "OTEL_SENTRY_SLOW_AS_ISSUE",
        parse=parse.boolean,
    )
    n_plus_one: int = _row(
        10,
        "How often one query may run below one span, one after the other, before it is told of (N+1); 0: never.",
        "OTEL_SENTRY_N_PLUS_ONE",
        parse=parse.whole(0, 1_000_000),
    )
    n_plus_one_ms: float = _row(
        50.0, "And how many ms these take in all.", "OTEL_SENTRY_N_PLUS_ONE_MS", parse=parse.number(0, 1e9)
    )
    n_plus_one_alert: bool = _row(
        False, "Alert (severity warning) on N+1.", "OTEL_SENTRY_N_PLUS_ONE_ALERT", parse=parse.boolean
    )

    # Business
    store: str | None = _row(
        None,
        "Where journeys, distinct users and alert limits live: a Redis URL, or `memory` (this process).",
        "OTEL_SENTRY_STORE",
        parse=parse.store,
        shown="the Redis of Django's cache or of Celery, else memory",
        secret=True,
    )
    metric_labels: tuple[str, ...] = _row(
        (),
        "Strings in the data of business metrics that become labels, e.g. `signup_source`; keep their values few.",
        "OTEL_SENTRY_METRIC_LABELS",
        parse=parse.names,
    )

    # Security (business.md 6)
    security: bool = _row(
        True,
        "Security events of Django: audit trail, counters, patterns, alerts.",
        "OTEL_SENTRY_SECURITY",
        parse=parse.boolean,
    )
    security_patterns: tuple[tuple[str, tuple[int, float]], ...] = _row(
        (),
        "When a security pattern breaks out, as `<pattern>=<events>/<seconds>,...`; 0 turns one off.",
        "OTEL_SENTRY_SECURITY_PATTERNS",
        parse=thresholds.security_patterns,
        shown=",".join(f"{name}={count}/{seconds:g}" for name, (count, seconds) in thresholds.PATTERNS.items()),
    )
    audit_key: str | None = _row(
        None,
        "Key of the hashes in the audit trail; the same in all processes whose lines are compared.",
        "OTEL_SENTRY_AUDIT_KEY",
        shown="derived from Django's SECRET_KEY",
        secret=True,
    )

    # Other backends
    otlp_sample_rate: float = _row(
        1.0,
        "Share of the traces that OTLP exporters get, 0 to 1, whatever Sentry's rate: whole traces, the same ones "
        "in every service. Of one exporter: `OTEL_SENTRY_OTLP_<NAME>_SAMPLE_RATE`.",
        "OTEL_SENTRY_OTLP_SAMPLE_RATE",
        parse=parse.rate,
    )
    preset: str | None = _row(
        None,
        "What OTLP's backend is: `datadog` (operation and resource names, environment) or `grafana` (resource).",
        "OTEL_SENTRY_PRESET",
        parse=parse.choice("datadog", "grafana"),
    )
    trace_url: str | None = _row(
        None,
        "Link from an issue to its trace in another backend, with `{trace_id}` and `{span_id}` (hex).",
        "OTEL_SENTRY_TRACE_URL",
        parse=parse.trace_url,
    )

    # OpenTelemetry's own, read here so that one place knows them
    sdk_disabled: bool = _row(False, "Nothing of ours runs.", "OTEL_SDK_DISABLED", parse=parse.boolean)
    traces_exporter: tuple[str, ...] = _row(
        ("otel_sentry",),
        "Exporters of traces: `otel_sentry`, `otlp`, `otlp/<name>`, `console`, ... or `none` (errors only).",
        "OTEL_TRACES_EXPORTER",
        parse=parse.names,
    )
    logs_exporter: tuple[str, ...] = _row(
        (), "Exporters of logs beside Sentry: `otlp`, `console`.", "OTEL_LOGS_EXPORTER", parse=parse.names
    )
    metrics_exporter: tuple[str, ...] = _row(
        (), "Exporters of metrics beside Sentry: `otlp`, `console`.", "OTEL_METRICS_EXPORTER", parse=parse.names
    )
    propagators: tuple[str, ...] | None = _row(
        None, "Propagators.", "OTEL_PROPAGATORS", parse=parse.names, shown="tracecontext,baggage,otel_sentry"
    )
    otel_sampler: str | None = _row(
        None, "Sampler that decides for Sentry in place of the rate.", "OTEL_TRACES_SAMPLER"
    )
    otel_sampler_arg: str | None = _row(None, "Its argument.", "OTEL_TRACES_SAMPLER_ARG")

    # How the values came about
    environment_assumed: bool = field(default=False, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: tuple[str, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        shown = (f"{row.name}={getattr(self, row.name)!r}" for row in rows() if not row.metadata["row"].secret)
        return f"Settings({', '.join(shown)})"


def rows() -> list[Any]:
    """The dataclass fields that are settings, in the table's order."""
    return [row for row in fields(Settings) if "row" in row.metadata]


PRESETS: dict[str, dict[str, Any]] = {
    "development": {"traces_sample_rate": 1.0, "profiles_sample_rate": 1.0, "debug": True},
    "staging": {"traces_sample_rate": 0.5, "profiles_sample_rate": 0.3, "debug": False},
    "production": {"traces_sample_rate": 0.1, "profiles_sample_rate": 0.05, "debug": False},
}
_ALIASES = {
    "dev": "development", "local": "development", "test": "development",
    "stage": "staging", "stg": "staging", "qa": "staging",
    "prod": "production", "live": "production",
}  # fmt: skip


def preset_of(environment: str) -> str | None:
    """The preset that an environment's name stands for, else None (production's rates are used then)."""
    name = environment.strip().lower()
    name = _ALIASES.get(name, name)
    return name if name in PRESETS else None


def load(env: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        env: the environment variables (default: `os.environ`).
        overrides: settings by name, as given to `configure`; None means "not given".

    Raises:
        TypeError: an override is not a setting (with the nearest name).

    """
    env = os.environ if env is None else env
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    _check_names(overrides)
    for row in rows():
        _read(row.name, row.metadata["row"], env, overrides, values, origins, problems)
    _fill_in(env, values, origins, problems)
    return Settings(**values, origins=origins, problems=tuple(problems))


def _check_names(overrides: Mapping[str, Any]) -> None:
    known = [row.name for row in rows()]
    for name in overrides:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            raise TypeError(f"configure() has no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _read(
    name: str,
    row: Setting,
    env: Mapping[str, str],
    overrides: Mapping[str, Any],
    values: dict[str, Any],
    origins: dict[str, str],
    problems: list[str],
) -> None:
    given = overrides.get(name)
    if given is not None:
        try:
            values[name] = row.parse(given) if isinstance(given, str) else _as_declared(row, given)
            origins[name] = "configure()"
        except (ValueError, TypeError) as exc:
            problems.append(f"configure({name}={_shown(row, given)}): {exc}; the default is used")
        return
    for variable in row.env:
        text = env.get(variable, "").strip()
        if not text:
            continue
        try:
            values[name] = row.parse(text)
            origins[name] = variable
        except ValueError as exc:
            problems.append(f"{variable}={_shown(row, text)}: {exc}; the default is used")
        return


def _as_declared(row: Setting, given: Any) -> Any:
    """Non-string arguments of `configure` go through the same check as text where that makes sense."""
    if isinstance(given, bool | int | float) and row.parse is not str:
        return row.parse(str(given))
    if isinstance(given, Iterable) and not callable(given):
        return tuple(given.items() if isinstance(given, Mapping) else given)
    return given


def _shown(row: Setting, value: Any) -> str:
    return "<hidden>" if row.secret else repr(value)[:80]


def _fill_in(env: Mapping[str, str], values: dict[str, Any], origins: dict[str, str], problems: list[str]) -> None:
    """The defaults that depend on the machine, the resource or the environment's preset."""
    resource = resource_attributes(env)
    if "environment" not in values:
        values["environment"], origins["environment"] = environment_of(resource, sys.argv)
        values["environment_assumed"] = origins["environment"] == "assumed"
    preset = preset_of(values["environment"])
    if preset is None:
        problems.append(
            f"environment {values['environment']!r} has no preset: production's rates are used; "
            "set SENTRY_TRACES_SAMPLE_RATE to choose your own"
        )
    for name, value in PRESETS[preset or "production"].items():
        if name not in values:
            values[name] = value
            origins[name] = f"preset {preset or 'production'}"
    if "release" not in values:
        values["release"], origins["release"] = release_of(resource, env)
    if "service_name" not in values and resource.get("service.name"):
        values["service_name"], origins["service_name"] = resource["service.name"], "OTEL_RESOURCE_ATTRIBUTES"
    if "server_name" not in values:
        values["server_name"] = server_name_of()
    if "org_id" not in values and values.get("dsn"):
        found = re.search(r"@o(\d+)\.", values["dsn"])
        if found:
            values["org_id"], origins["org_id"] = found.group(1), "SENTRY_DSN"
