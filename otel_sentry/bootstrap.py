"""The set-up: settings -> sender, sampler, pipeline, hooks; `wiring` joins them to OpenTelemetry.

The launcher's way in is `distro`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from otel_sentry import guard, process, runtime, signals, wiring
from otel_sentry.runtime import Runtime
from otel_sentry.settings import Settings, load

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.sentry.dsn import Dsn
    from otel_sentry.sentry.sender import Sender
    from otel_sentry.trace.segment import Segment


def configure(*, tracer_provider: Any = None, instrument: bool = True, **settings: Any) -> None:
    """Set otel-sentry up from code: the same as the launcher and the environment variables do.

    Args:
        tracer_provider: a `TracerProvider` of your own; by default the global one if it was set, else a new one.
        instrument: arrange for the installed OpenTelemetry instrumentors too.
        settings: any setting by its name (``otel-sentry config`` lists them); they win over the environment.

    Calling it again adds the settings given then to those in force; the rest stays. Never raises but for a setting that
    does not exist.

    Raises:
        TypeError: an argument is not a setting.

    """
    current = runtime.get()
    if current is not None:
        _amend(current, settings)
        return
    loaded = load(None, **settings)
    with guard.block("configure"):
        built = build(loaded, overrides=settings)
        if built is None:
            _watch_for_init(loaded)
            return
        wiring.join_provider(built, tracer_provider)
        wiring.set_propagator(built.settings)
        process.install()
        _install_hooks(built)
        process.prepare_exit()
        guard.say(start_line(built))
        if instrument:
            from otel_sentry import instrument as instrumentors

            off = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
            instrumentors.load_all(name.strip() for name in off.split(",") if name.strip())


def build(settings: Settings, overrides: dict[str, Any] | None = None) -> Runtime | None:
    """Make the parts and put them in force; None (and one line) where there is nothing to do."""
    guard.set_debug(settings.debug)
    for problem in settings.problems:
        guard.say(problem)
    _scrub_by(settings)
    if settings.sdk_disabled:
        guard.say("off: OTEL_SDK_DISABLED=true")
        return None
    dsn = _parse_dsn(settings)
    if dsn is None and not settings.spotlight and not wiring.other_exporters(settings) and not signals.wanted(settings):
        if not settings.dsn:
            guard.say(
                "off: no SENTRY_DSN and no other backend; set SENTRY_DSN=https://<key>@<host>/<project> to turn it on"
            )
        return None
    from otel_sentry.trace import totals
    from otel_sentry.trace.pipeline import SpanPipeline, encoder
    from otel_sentry.trace.sampler import SentrySampler

    sender = make_sender(settings, dsn)
    to_sentry = sender is not None and wiring.OURS in settings.traces_exporter
    sampler = SentrySampler(
        traces_sample_rate=settings.traces_sample_rate,
        tracing=to_sentry,
        traces_sampler=settings.traces_sampler,
        other_backends=wiring.other_rate(settings),
        base=_users_sampler(settings),
        ignore_transactions=settings.ignore_transactions,
        default_ignores=settings.default_ignores,
        w3c_parent=settings.w3c_parent,
        style=settings.django_transaction_style,
        drop_redis_roots=not settings.celery_broker_spans,
        downsample_factor=_downsample_factor,
    )
    pipeline = SpanPipeline(
        sampler,
        sender=current_sender if to_sentry else lambda: None,
        encode=encoder(_common),
        transactions=_trace_format(settings) == "transaction",
        max_breadcrumbs=settings.max_breadcrumbs,
        late_grace=settings.late_grace,
        keep=settings.keep,
        ignore_spans=settings.ignore_spans,
        spills=_spills(settings, dsn),
        on_slow=_on_slow,
        **_root_hooks(sender, to_sentry),
    )
    from otel_sentry.trace.segment import table

    table.limit = settings.max_open_spans
    totals.use(settings)
    built = Runtime(settings, dsn, sender, sampler, pipeline, overrides=dict(overrides or {}))
    runtime.set_current(built)
    return built


def _on_slow(segment: Segment, span: ReadableSpan, what: str) -> None:
    from otel_sentry.business import performance  # with the first slow one, and not at start-up

    performance.on_slow(segment, span, what)


def _measure(segment: Segment, root: ReadableSpan) -> None:
    if root.kind is SpanKind.SERVER or root.kind is SpanKind.CONSUMER:
        from otel_sentry.business import roots  # with the first request or task

        roots.ended(segment, root)


def _root_hooks(sender: Sender | None, to_sentry: bool) -> dict[str, Any]:
    """What is to happen at local roots: profiles, and metrics and sessions, which need no sampled trace."""
    if sender is None:
        return {"on_finish": _measure}
    from otel_sentry.sentry import profiling, sessions

    def on_finish(segment: Segment, root: ReadableSpan) -> None:
        _measure(segment, root)
        sessions.count(segment, root)
        if segment.profile is not None:
            profiling.end(segment)

    return {"on_begin": profiling.begin if to_sentry else None, "on_finish": on_finish}


def _parse_dsn(settings: Settings) -> Dsn | None:
    if not settings.dsn:
        return None
    from otel_sentry.sentry.dsn import Dsn

    try:
        return Dsn.parse(settings.dsn)
    except ValueError as exc:
        guard.say(f"off: SENTRY_DSN can't be used: {exc}; expected https://<key>@<host>/<project>")
        return None


def make_sender(settings: Settings, dsn: Dsn | None) -> Sender | None:
    """The sender to *dsn* and Spotlight; None where neither is set."""
    from otel_sentry.sentry.sender import Sender, Target, sentry_target

    targets = []
    if dsn is not None:
        targets.append(sentry_target(dsn))
        if _trace_format(settings) == "otlp":
            from otel_sentry.sentry.otlp import target

            targets.append(target(dsn))
    if settings.spotlight:
        targets.append(Target(settings.spotlight, {}, primary=dsn is None))
    if not targets:
        return None
    return Sender(
        targets,
        queue_size=settings.queue_size,
        queue_bytes=settings.queue_bytes,
        shutdown_timeout=settings.shutdown_timeout,
        http_proxy=settings.http_proxy,
        https_proxy=settings.https_proxy,
        ca_certs=settings.ca_certs,
    )


def current_sender() -> Sender | None:
    current = runtime.get()
    return current.sender if current else None


def _downsample_factor() -> int:
    sender = current_sender()
    return sender.downsample_factor if sender else 0


def _common() -> Any:
    """What all transactions of the set-up in force share."""
    current = runtime.get()
    return _common_for(current.settings, current.provider, current.dsn) if current else None


@functools.lru_cache(maxsize=2)
def _common_for(settings: Settings, provider: Any, dsn: Dsn | None) -> Any:
    from otel_sentry.sentry import transaction
    from otel_sentry.sentry.events import apply_scope

    resource = getattr(provider, "resource", None)
    return transaction.Common(
        release=settings.release,
        environment=settings.environment,
        server_name=settings.server_name or None,
        dist=settings.dist,
        resource=dict(resource.attributes) if resource is not None else {},
        style=settings.django_transaction_style,
        pii=settings.send_default_pii,
        max_spans=settings.max_spans,
        max_bytes=settings.max_segment_bytes,
        format=_trace_format(settings),
        overflow=_overflows(settings, dsn),
        before_send_transaction=settings.before_send_transaction,
        apply_scope=apply_scope,
    )


def _trace_format(settings: Settings) -> str:
    """`OTEL_SENTRY_TRACE_FORMAT`, as far as it can be had: without a DSN (Spotlight) and without OTLP's encoder not."""
    if settings.trace_format == "otlp" and settings.dsn:
        from otel_sentry.sentry.otlp import installed

        if not installed():
            guard.say_once("otlp", "transactions are sent: OTEL_SENTRY_TRACE_FORMAT=otlp needs otel-sentry[otlp]")
            return "transaction"
    return settings.trace_format if settings.dsn else "transaction"


def _overflows(settings: Settings, dsn: Dsn | None) -> bool:
    """Does what a transaction has no room for leave as span v2?"""
    from otel_sentry.sentry.formats import takes_span_v2

    return settings.overflow == "span" or (settings.overflow == "auto" and takes_span_v2(dsn))


def _spills(settings: Settings, dsn: Dsn | None) -> bool:
    """Can spans leave one by one, before their root has ended?"""
    return _trace_format(settings) != "transaction" or _overflows(settings, dsn)


def _users_sampler(settings: Settings) -> Any:
    """`OTEL_TRACES_SAMPLER`: obeyed, for Sentry's decision, through our sampler (decision 5)."""
    if not settings.otel_sampler or settings.otel_sampler == wiring.OURS:
        return None
    from opentelemetry.sdk.trace import sampling

    # The one place in the SDK that turns the two variables into a sampler; private, so a missing name is survived.
    from_env = getattr(sampling, "_get_from_env_or_default", None)
    return from_env() if from_env is not None else None


def _install_hooks(built: Runtime) -> None:
    signals.install(built)
    if built.sender is None:
        return
    from otel_sentry.sentry import hooks, takeover

    hooks.install()
    takeover.install_import_hook()


def _watch_for_init(settings: Settings) -> None:
    """Without a DSN of ours the application may still name one, in its own `sentry_sdk.init` (decision 14)."""
    if settings.dsn is None and not settings.sdk_disabled and settings.take_over_init:
        from otel_sentry.sentry import takeover

        takeover.install_import_hook()


def _amend(current: Runtime, settings: dict[str, Any]) -> None:
    """A later `configure`: its settings join those in force."""
    if not settings:
        return
    overrides = {**current.overrides, **settings}
    loaded = load(None, **overrides)
    for problem in loaded.problems:
        guard.say(problem)
    if loaded.dsn != current.settings.dsn:
        guard.say("the DSN stays the one of the first set-up; set SENTRY_DSN instead of passing another one")
        overrides["dsn"] = current.settings.dsn
        loaded = load(None, **overrides)
    origins = current.settings.origins
    inits = {name: by for name, by in origins.items() if by == "sentry_sdk.init" and name not in settings}
    loaded = dataclasses.replace(loaded, origins={**loaded.origins, **inits})
    current.overrides, current.settings = overrides, loaded
    _scrub_by(loaded)
    guard.set_debug(loaded.debug)
    current.sampler.update(loaded)
    current.pipeline.update(loaded)
    signals.install(current)
    process.prepare_exit()


def _scrub_by(settings: Settings) -> None:
    """The user's own rules of what is a secret."""
    if settings.scrub_keys or settings.scrub_values or settings.scrub_allow:
        from otel_sentry.privacy import rules  # not at start-up: its tables take time

        for problem in rules.use(settings.scrub_keys, settings.scrub_values, settings.scrub_allow):
            guard.say(problem)


def start_line(built: Runtime) -> str:
    """The line that tells at start where what goes, so that nobody wonders where nine of ten traces went."""
    settings = built.settings
    parts = []
    if built.dsn is not None:
        parts.append(f"errors to Sentry project {built.dsn.project_id} at {built.dsn.host}")
        if wiring.OURS in settings.traces_exporter:
            rate = "traces_sampler" if settings.traces_sampler else f"{settings.traces_sample_rate:.4g}"
            form = {"span": ", as spans", "otlp": ", by OTLP"}.get(_trace_format(settings), "")
            parts.append(f"traces too (rate {rate}{form})")
    if settings.spotlight:
        parts.append("Spotlight")
    parts.extend(wiring.other_exporters(settings))
    parts.extend(signals.described(settings, to_sentry=built.sender is not None))
    where = settings.environment
    if settings.environment_assumed:
        where += " (assumed: set SENTRY_ENVIRONMENT)"
    return f"on: {', '.join(parts)}; environment {where}; release {settings.release or 'none'}"
