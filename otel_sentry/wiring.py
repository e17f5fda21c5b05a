"""Joining the parts to OpenTelemetry: provider, span processors, other exporters, propagators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_sentry import guard

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from otel_sentry.runtime import Runtime
    from otel_sentry.settings import Settings

#: Names of `OTEL_TRACES_EXPORTER` that are ours or mean "no exporter".
OURS = "otel_sentry"
NOTHING = "none"


def other_exporters(settings: Settings) -> list[str]:
    """The exporters of traces besides ours, by name."""
    return [name for name in settings.traces_exporter if name not in (OURS, NOTHING)]


def join_provider(built: Runtime, given: Any) -> None:
    """Put the pipeline on *given*, else on the global provider if there is one, else on a new one of ours."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = given or trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        built.provider = provider
        if provider.sampler is not built.sampler:
            guard.say("your TracerProvider keeps its own sampler; Sentry's decision is taken at each local root")
    else:
        provider = built.provider = make_provider(built)
        trace.set_tracer_provider(provider)
    for processor in _users_processors(built.settings):
        provider.add_span_processor(processor)
    provider.add_span_processor(built.pipeline)
    _add_other_exporters(built, provider)


def make_provider(built: Runtime) -> TracerProvider:
    """A provider of ours, with the sampler of *built*."""
    from otel_sentry.trace.provider import SentryTracerProvider

    provider = SentryTracerProvider(sampler=built.sampler, resource=resource_of(built.settings), shutdown_on_exit=False)
    provider.has_other_backends = bool(other_exporters(built.settings))
    return provider


def resource_of(settings: Settings) -> Any:
    """One source of truth: what Sentry's events say is what every other backend's resource says."""
    from opentelemetry.sdk.resources import Resource

    attributes = {"deployment.environment.name": settings.environment}
    if settings.release:
        attributes["service.version"] = settings.release
    if settings.service_name != "unknown_service":
        attributes["service.name"] = settings.service_name
    return Resource.create(attributes)


def _users_processors(settings: Settings) -> list[Any]:
    made = []
    for entry in settings.span_processors:
        with guard.block(f"span processor {entry}"):
            if isinstance(entry, str):
                from otel_sentry.parse import load_object

                entry = load_object(entry)
            from otel_sentry.trace.processors import Guarded

            made.append(Guarded(entry() if isinstance(entry, type) else entry))
    return made


def other_rate(settings: Settings) -> float:
    """The share of the traces that at least one exporter besides ours wants."""
    names = other_exporters(settings)
    if not names:
        return 0.0
    from otel_sentry.backends import rate_of

    return max(rate_of(name, settings) for name in names)


def _add_other_exporters(built: Runtime, provider: Any) -> None:
    names = other_exporters(built.settings)
    if not names:
        return
    from otel_sentry.backends.spans import processors

    # With OTLP alone a Collector feeds Sentry, and needs what the sampler wrote (decision 5).
    for processor in processors(names, built.settings, carriers=OURS not in built.settings.traces_exporter):
        provider.add_span_processor(processor)


def set_propagator(settings: Settings) -> None:
    """W3C's headers and Sentry's, unless the user chose the propagators."""
    if settings.propagators is not None:
        if OURS not in settings.propagators:
            guard.say("OTEL_PROPAGATORS lacks otel_sentry: traces are not joined with services that speak sentry-trace")
        return  # opentelemetry.propagate has read the variable itself
    from opentelemetry import propagate
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.propagators.composite import CompositePropagator

    from otel_sentry.trace.propagator import SentryPropagator, TraceContextPropagator

    # Ours last: it wins on extract when a sentry-trace is there, and merges into the baggage written before it.
    propagate.set_global_textmap(
        CompositePropagator([TraceContextPropagator(), W3CBaggagePropagator(), SentryPropagator()])
    )
