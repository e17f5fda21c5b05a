"""The scrubber: what leaves the process, whatever the backend, goes through here first.

Pure functions over plain data; imports neither OpenTelemetry nor sentry_sdk. Secrets become `[Filtered]`;
personal data (e-mails, addresses, names) goes too unless `pii=True`. All of it is linear in its input's size.
"""

from __future__ import annotations

from otel_sentry.privacy.attributes import scrub, scrub_statement
from otel_sentry.privacy.event import scrub_event
from otel_sentry.privacy.keys import is_sensitive_key
from otel_sentry.privacy.sql import scrub_redis, scrub_sql
from otel_sentry.privacy.tokens import FILTERED
from otel_sentry.privacy.urls import scrub_headers, scrub_path, scrub_query, scrub_url, strip_url
from otel_sentry.privacy.values import cut, scrub_text

__all__ = [
    "FILTERED",
    "cut",
    "is_sensitive_key",
    "scrub",
    "scrub_event",
    "scrub_headers",
    "scrub_path",
    "scrub_query",
    "scrub_redis",
    "scrub_sql",
    "scrub_statement",
    "scrub_text",
    "scrub_url",
    "strip_url",
]
