"""Attributes as Sentry's containers of spans, logs and metrics have them: ``{"value": 1, "type": "integer"}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_sentry.sentry.envelope import dumps

_KINDS = {bool: "boolean", int: "integer", float: "double", str: "string"}


def typed(attributes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """*attributes*, whose values are JSON's (`envelope.plain`), with their types; None is left out."""
    found = {}
    for key, value in attributes.items():
        kind = _KINDS.get(type(value))
        if kind is None:
            if value is None:
                continue
            kind, value = _other(value)
        found[key] = {"value": value, "type": kind}
    return found


def _other(value: Any) -> tuple[str, Any]:
    """Lists of one primitive type are arrays; anything else is its JSON."""
    if isinstance(value, (list, tuple)):
        kinds = {type(one) for one in value}
        if len(kinds) <= 1 and kinds <= set(_KINDS):
            return "array", list(value)
    return "string", dumps(value).decode()
