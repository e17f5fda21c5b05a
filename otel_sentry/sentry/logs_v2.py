"""Log records as Sentry's log items. On the caller's thread: `put`; on the sender's: everything else."""

from __future__ import annotations

from typing import Any

from otel_sentry.logs import Snapshot, severity
from otel_sentry.privacy import scrub, scrub_text
from otel_sentry.runtime import Runtime
from otel_sentry.sentry.batch import LOG, Batcher, attributes_of, common_attributes, trace_ids


def put(taken: Snapshot) -> None:
    """Queue a record for Sentry."""
    batcher.add(taken)


def _prepare(taken: Snapshot, current: Runtime) -> dict[str, Any]:
    """The record scrubbed, in the shape that sentry-sdk gives to ``before_send_log``."""
    pii = current.settings.send_default_pii
    level, number = severity(taken.levelno)
    body = scrub_text(taken.body, pii=pii)
    attributes = {**scrub(taken.attributes, pii=pii), **common_attributes(current)}
    attributes.pop("exception.stacktrace", None)  # for OTLP; here the issue has it
    if taken.template is not None:
        attributes["sentry.message.template"] = scrub_text(taken.template, pii=pii)
        attributes.update(_parameters(taken, body, pii))
    attributes["logger.name"] = taken.logger
    attributes["sentry.origin"] = "auto.log.stdlib"
    return {
        "severity_text": level,
        "severity_number": number,
        "body": body,
        "attributes": attributes,
        "time_unix_nano": int(taken.created * 1e9),
        "trace_id": None,
        "span_id": None,
        **trace_ids(taken.trace_id, taken.span_id),
    }


def _parameters(taken: Snapshot, body: str, pii: bool) -> dict[str, Any]:
    """The message's parameters. ``"password=%s"``: what the scrubber took out of the text must not leave this way."""
    scrubbed = scrub({f"sentry.message.parameter.{key}": value for key, value in taken.parameters.items()}, pii=pii)
    if body == taken.body:
        return scrubbed
    return {key: value for key, value in scrubbed.items() if str(value) in body}


def _on_wire(log: dict[str, Any]) -> dict[str, Any]:
    attributes = dict(log["attributes"])
    attributes.setdefault("sentry.severity_number", log["severity_number"])
    attributes.setdefault("sentry.severity_text", log["severity_text"])
    item: dict[str, Any] = {
        "timestamp": log["time_unix_nano"] / 1e9,
        "level": str(log["severity_text"]),
        "severity_number": log["severity_number"],
        "body": str(log["body"]),
        "attributes": attributes_of(attributes),
    }
    item.update({key: log[key] for key in ("trace_id", "span_id") if log.get(key)})
    return item


batcher = Batcher(LOG, _prepare, _on_wire)
