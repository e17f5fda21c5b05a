"""``{% load otel_sentry %}{% trace_meta %}``: the meta tags with which a page continues the trace in the browser."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from otel_sentry.trace.meta import trace_meta as tags

register = template.Library()


@register.simple_tag  # type: ignore[untyped-decorator, unused-ignore]
def trace_meta() -> SafeString:
    """See `otel_sentry.trace_meta`; its values are escaped already."""
    return SafeString(tags())
