"""``manage.py check``: what would keep errors and traces from arriving. Hints only; none stops a deployment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning

from otel_sentry.cli import doctor
from otel_sentry.cli.doctor import Finding

_CONTRIBS = "opentelemetry.instrumentation.django."


#: The doctor's level -> the kind of message. A set-up without a DSN is usual in development and CI.
_KINDS = {"fail": (Warning, "otel_sentry.W001"), "warn": (Info, "otel_sentry.I001"), "off": (Info, "otel_sentry.I002")}


def check(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Django's system check: what the doctor finds that needs somebody to act."""
    messages = []
    for finding in (*doctor.findings(), *findings()):
        if finding.level in _KINDS:
            kind, name = _KINDS[finding.level]
            messages.append(kind(finding.text, hint=finding.hint or None, id=name))
    return messages


def findings() -> list[Finding]:
    """What only Django's settings can tell."""
    return [*_middlewares(), *_instrumented()]


def _middlewares() -> Iterator[Finding]:
    listed = [str(one) for one in settings.MIDDLEWARE]
    for name in listed:
        if name.startswith(_CONTRIBS) and "otel_middleware" in name:
            yield Finding("fail", f"MIDDLEWARE lists {name}: every request has two spans", "take it out")
    position = os.environ.get("OTEL_PYTHON_DJANGO_MIDDLEWARE_POSITION", "0").strip()
    if position not in ("", "0"):
        before = ", ".join(listed[: int(position)] if position.isdecimal() else [])
        yield Finding(
            "warn",
            f"OTEL_PYTHON_DJANGO_MIDDLEWARE_POSITION={position}: what these do is on no span: {before or '?'}",
            "unset it: the user is found without it",
        )


def _instrumented() -> Iterator[Finding]:
    if os.environ.get("OTEL_PYTHON_DJANGO_INSTRUMENT") == "False":
        yield Finding("fail", "OTEL_PYTHON_DJANGO_INSTRUMENT=False: requests are not traced", "unset it")
    if getattr(settings, "ASGI_APPLICATION", None) and doctor.installed("opentelemetry-instrumentation-asgi") is None:
        hint = "pip install opentelemetry-instrumentation-asgi"
        yield Finding("fail", "requests under ASGI are not traced: their instrumentation is missing", hint)
