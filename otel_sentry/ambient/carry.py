"""What a message takes along from publisher to task: the user's id, the operation, and what others register.

An allow-list on both sides (`OTEL_SENTRY_CELERY_CONTEXT`): e-mail, names, addresses and details stay where they are
unless the setting lists them, since brokers keep messages, and people read them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from otel_sentry import guard
from otel_sentry.ambient import CARRIED_KEY, Ambient, Business, current

#: Taken along by default.
DEFAULT = ("user.id", "user_type", "operation", "module", "journey")
_MAX_TEXT = 1000

Read = Callable[[], str | None]
Write = Callable[[str, Context], Context]
_parts: dict[str, tuple[Read, Write]] = {}


def register(name: str, read: Read, write: Write) -> None:
    """Let messages carry *name*: *read* says what is in force here, *write* puts that into the task's Context."""
    _parts[name] = (read, write)


def carried(wanted: Iterable[str] = DEFAULT) -> dict[str, str]:
    """What is in force here, as far as *wanted* names it: ``{"user.id": "7", "operation": "checkout", ...}``."""
    ambient = current()
    found: dict[str, str] = {}
    for name in wanted:
        value: Any = None
        with guard.block(f"carrying {name}"):
            value = _parts[name][0]() if name in _parts else _own(name, ambient)
        if value is not None and value != "":
            found[name] = str(value)[:_MAX_TEXT]
    return found


def _own(name: str, ambient: Ambient) -> Any:
    business = ambient.business
    if name in ("operation", "module"):
        return getattr(business, name, None)
    if name == "details":
        details = business.as_context()["details"] if business is not None else None
        return json.dumps(details) if details else None
    if name == "user_type" or name.startswith("user."):
        return (ambient.user or {}).get(name.removeprefix("user."))
    return None


def restore(values: Any, context: Context | None = None, wanted: Iterable[str] = DEFAULT) -> Context:
    """*context* with what a message carried (`carried`), as far as *wanted* names it; bad values are left out.

    The local root that starts in it takes user and operation over, where `set_user` and the like still win.
    """
    context = otel_context.get_current() if context is None else context
    if not isinstance(values, Mapping):
        return context
    allowed = {name: values[name] for name in wanted if isinstance(values.get(name), str)}
    user = {
        name.removeprefix("user."): value
        for name, value in allowed.items()
        if name == "user_type" or name.startswith("user.")
    }
    business = None
    if allowed.get("operation"):
        business = Business(allowed["operation"], allowed.get("module"), _details(allowed.get("details")))
    if user or business:
        context = otel_context.set_value(CARRIED_KEY, Ambient(user or None, business), context)
    for name, value in allowed.items():
        if name in _parts:
            with guard.block(f"restoring {name}"):
                context = _parts[name][1](value, context)
    return context


def _details(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError:  # cut short
        return None
    return found if isinstance(found, dict) else None
