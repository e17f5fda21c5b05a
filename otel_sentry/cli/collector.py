"""``otel-sentry collector-config``: an OpenTelemetry Collector's configuration for the backends that are asked for.

The files in ``collector-config/`` are made here (`FILES`); a test compares them, and the tests run each in a real
Collector.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from otel_sentry.cli.collector_parts import (
    AGENT,
    BACKENDS,
    CONNECTORS,
    EXTENSIONS,
    FOR_SENTRY,
    KAFKA_RECEIVERS,
    KNOWN,
    PROCESSORS,
    RECEIVER,
    Backend,
    Component,
)

#: Receivers, processors and exporters.
Pipeline = tuple[list[str], list[str], list[str]]
#: The files of `collector-config/`, and the arguments of `render` that each is made with.
FILES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "sentry.yaml": (("sentry", "prometheus"), "single"),
    "sentry-datadog.yaml": (("sentry", "datadog"), "single"),
    "sentry-grafana.yaml": (("sentry", "grafana"), "single"),
    "local.yaml": (("local", "prometheus"), "single"),
    "scale-out/agent.yaml": ((), "agent"),
    "scale-out/gateway.yaml": (("sentry", "prometheus"), "gateway"),
}
ROLES = ("single", "agent", "gateway")


def render(backends: Sequence[str], role: str = "single") -> str:
    """The configuration for *backends*, as YAML.

    Args:
        backends: names out of `BACKENDS`; an agent has none.
        role: "single", or one side of the scale-out by Kafka: "agent" (beside the programs) or "gateway".

    Raises:
        ValueError: an unknown backend, or none; the message names those that there are.

    """
    _check(backends, role)
    names = list(dict.fromkeys(backends))
    chosen = [AGENT] if role == "agent" else [KNOWN[name] for name in names]
    pipelines = _pipelines(chosen, role)
    used = {name for pipeline in pipelines.values() for part in pipeline for name in part}
    stores = any("storage:" in exporter.body for one in chosen for exporter in one.exporters)
    extensions = EXTENSIONS if stores else EXTENSIONS[:1]
    sections = {
        "extensions": extensions,
        "receivers": KAFKA_RECEIVERS if role == "gateway" else (RECEIVER,),
        "processors": [one for one in PROCESSORS if one.name in used],
        "connectors": [one for one in CONNECTORS if one.name in used],
        "exporters": [_for_role(exporter, role) for one in chosen for exporter in one.exporters],
    }
    options = f"--backends {','.join(names)}" if names else ""
    options += f" --role {role}" if role != "single" else ""
    head = f"# For {', '.join(names) or 'Kafka'}. Made by: otel-sentry collector-config {options.strip()}"
    return "\n".join([head, *_sections(sections), _service(extensions, pipelines)])


def _for_role(exporter: Component, role: str) -> Component:
    """A gateway whose queue is full waits, and Kafka keeps the rest; alone, a backend's outage must not stop others."""
    if role != "gateway":
        return exporter
    return exporter._replace(body=exporter.body.replace("block_on_overflow: false", "block_on_overflow: true"))


def _pipelines(chosen: Sequence[Backend], role: str) -> dict[str, Pipeline]:
    """All spans come in at one place; one tail sampler serves every backend that wants sampled traces."""
    if role == "agent":
        return {
            "traces": (["otlp"], ["memory_limiter", "transform/urls", "redaction/secrets"], list(chosen[0].traces)),
            "metrics": (["otlp"], ["memory_limiter"], list(chosen[0].metrics)),
            "logs": (["otlp"], ["memory_limiter", "redaction/secrets"], list(chosen[0].logs)),
        }

    def source(signal: str) -> list[str]:
        return [f"kafka/{signal}"] if role == "gateway" else ["otlp"]

    kept = [name for one in chosen if one.sampled for name in one.traces]
    stripped = [name for name in kept if name not in FOR_SENTRY]
    others = [name for one in chosen if not one.sampled for name in one.traces]
    metrics = [name for one in chosen for name in one.metrics]
    logs = [name for one in chosen for name in one.logs]
    entry = [
        name
        for name, wanted in (("span_metrics", metrics), ("forward/kept", kept), ("forward/others", others))
        if wanted
    ]
    found: dict[str, Pipeline] = {
        "traces/in": (source("traces"), ["memory_limiter", "transform/urls", "redaction/secrets"], entry)
    }
    if kept:
        ends = [name for name in kept if name in FOR_SENTRY] + (["forward/stripped"] if stripped else [])
        found["traces/kept"] = (["forward/kept"], ["tail_sampling"], ends)
    if stripped:
        found["traces/stripped"] = (["forward/stripped"], ["transform/strip_sentry"], stripped)
    if others:
        found["traces/others"] = (["forward/others"], ["transform/strip_sentry"], others)
    if metrics:
        found["metrics"] = ([*source("metrics"), "span_metrics"], ["memory_limiter"], metrics)
    if logs:
        found["logs"] = (source("logs"), ["memory_limiter", "redaction/secrets"], logs)
    return found


def _check(backends: Sequence[str], role: str) -> None:
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}: choose from {', '.join(ROLES)}")
    if role == "agent":
        if backends:
            raise ValueError("an agent writes to Kafka only: leave --backends out, and give them to the gateway")
        return
    unknown = [name for name in backends if name not in KNOWN]
    if unknown or not backends:
        what = f"unknown backend {unknown[0]!r}" if unknown else "no backend"
        raise ValueError(f"{what}: choose from {', '.join(BACKENDS)}")


def _sections(sections: Mapping[str, Iterable[Component]]) -> list[str]:
    found = []
    for title, components in sections.items():
        entries = []
        for component in components:
            body = component.body.rstrip("\n")
            entry = f"  {component.name}: {body}" if body == "{}" else f"  {component.name}:\n{_indent(body, 4)}"
            entries.append(entry)
        if entries:
            found.append(f"{title}:\n" + "\n".join(entries))
    return found


def _service(extensions: Iterable[Component], pipelines: Mapping[str, Pipeline]) -> str:
    lines = [
        "service:",
        f"  extensions: [{', '.join(extension.name for extension in extensions)}]",
        "  telemetry:",
        "    # The Collector's own health: otelcol_exporter_queue_size, otelcol_receiver_refused_spans, ...",
        "    metrics:",
        "      level: normal",
        "      readers:",
        "        - pull:",
        "            exporter:",
        "              prometheus:",
        '                host: "${env:OTELCOL_TELEMETRY_HOST:-127.0.0.1}"',
        "                port: ${env:OTELCOL_TELEMETRY_PORT:-8888}",
        "  pipelines:",
    ]
    for name, (receivers, processors, exporters) in pipelines.items():
        lines += [
            f"    {name}:",
            f"      receivers: [{', '.join(receivers)}]",
            f"      processors: [{', '.join(processors)}]",
            f"      exporters: [{', '.join(exporters)}]",
        ]
    return "\n".join(lines) + "\n"


def _indent(text: str, by: int) -> str:
    return textwrap.indent(text, " " * by)


def run(backends: str, role: str = "single") -> int:
    """Print the configuration; 2 when *backends* is not understood, told in one line."""
    try:
        text = render([name.strip() for name in backends.split(",") if name.strip()], role)
    except ValueError as exc:
        print(f"otel-sentry collector-config: {exc}", file=sys.stderr)
        return 2
    print(text, end="")
    return 0
