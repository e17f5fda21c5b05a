"""In which format finished segments leave for Sentry: `OTEL_SENTRY_TRACE_FORMAT` and `OTEL_SENTRY_OVERFLOW`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_sentry.sentry.dsn import Dsn
    from otel_sentry.sentry.outgoing import Envelope
    from otel_sentry.sentry.transaction import Common
    from otel_sentry.trace.segment import Segment

TRANSACTION, SPAN, OTLP = "transaction", "span", "otlp"


def takes_span_v2(dsn: Dsn | None) -> bool:
    """Is it Sentry's own service, which is sure to take span-v2 items? (`auto`: old self-hosted ones drop them.)"""
    return dsn is not None and (dsn.host == "sentry.io" or dsn.host.endswith(".sentry.io"))


def encode(segment: Segment, common: Common) -> list[Envelope]:
    """All envelopes of a segment, in the format of *common*."""
    if common.format == OTLP:
        from otel_sentry.sentry import otlp

        return otlp.encode_otlp(segment, common)
    if common.format == SPAN:
        from otel_sentry.sentry import span_v2

        return span_v2.encode_spans(segment, common)
    if segment.is_part:
        from otel_sentry.sentry import span_v2

        return span_v2.encode_part(segment, common)
    from otel_sentry.sentry import transaction  # not at start-up: it brings the tables of `convention` along

    return transaction.encode_all(segment, common)
