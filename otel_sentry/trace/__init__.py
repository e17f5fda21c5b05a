"""Spans on their way to Sentry: sampler, propagator, pipeline and the segment record that joins them.

This package imports light: the propagator in it is loaded while `opentelemetry.propagate` is itself being imported.
"""

from __future__ import annotations

#: The name that user code gave to an instrumentor's span (sentry-javascript's attribute).
CUSTOM_NAME = "sentry.custom_span_name"
#: Span attributes that carry what only Sentry's encoder reads. They never leave for another backend.
CARRIER_ATTRIBUTES = frozenset(
    {"sentry.sample_rate", "sentry.parent_is_remote", "sentry.parent_span_already_sent", CUSTOM_NAME}
)
