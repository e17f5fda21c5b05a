"""``otel-sentry config``: the table of settings, as it is in effect here, or as the docs print it."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, NamedTuple

from otel_sentry import settings


class _Row(NamedTuple):
    name: str
    variables: tuple[str, ...]
    default: str
    doc: str
    value: Any
    origin: str


def run(format: str = "text") -> int:
    """Print the table in *format* (text, markdown, json). Values that do not parse are told on stderr."""
    effective = settings.load()
    print(table(effective, format))
    for problem in effective.problems:
        print(f"otel-sentry: {problem}", file=sys.stderr)
    return 0


def table(effective: settings.Settings, format: str) -> str:
    """All settings in *format* (text, markdown, json); secrets are masked, and markdown shows defaults only."""
    rows = [_row(field, effective) for field in settings.rows()]
    return {"text": _text, "markdown": _markdown, "json": _json}[format](rows)


def _row(field: Any, effective: settings.Settings) -> _Row:
    row: settings.Setting = field.metadata["row"]
    value = getattr(effective, field.name)
    if row.secret and value is not None:
        value = masked(str(value))
    origin = effective.origins.get(field.name, "default")
    return _Row(field.name, row.env, row.default_text, row.doc, value, origin)


def masked(secret: str) -> str:
    """A DSN or proxy address without its key or password; anything else is hidden altogether."""
    shown, found = re.subn(r"^(\w+://)[^@]*@([^@?#]*).*$", r"\1***@\2", secret)
    return shown if found else "***"


def _text(rows: list[_Row]) -> str:
    widths = [max(len(row.name) for row in rows), max(len(_shown(row.value)) for row in rows)]
    widths[1] = min(widths[1], 40)
    return "\n".join(f"{row.name:<{widths[0]}}  {_shown(row.value):<{widths[1]}}  {row.origin}" for row in rows)


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _markdown(rows: list[_Row]) -> str:
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for row in rows:
        variables = ", ".join(f"`{name}`" for name in row.variables) or f"`configure({row.name}=...)`"
        lines.append(f"| {variables} | {_cell(row.default)} | {_cell(row.doc)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _json(rows: list[_Row]) -> str:
    entries = [
        {
            "name": row.name,
            "variables": list(row.variables),
            "default": row.default,
            "meaning": row.doc,
            "value": _plain(row.value),
            "origin": row.origin,
        }
        for row in rows
    ]
    return json.dumps({"settings": entries}, indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
