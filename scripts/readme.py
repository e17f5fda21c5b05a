"""Write the tables that are made from the code into the pages; with --check only compare.

``<!-- settings: all -->`` (or the names of some), ``<!-- metrics: all -->`` and ``<!-- alerts: all -->`` begin one;
``<!-- /settings -->`` and so on end it.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Callable, Iterable

from otel_sentry import settings
from otel_sentry.business.catalogue import ALERTS, METRICS
from otel_sentry.cli.config import table

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BETWEEN = re.compile(r"(<!-- (settings|metrics|alerts): ([^>]*)-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def _settings(names: list[str]) -> list[str]:
    head, line, *rows = table(settings.load({}), "markdown").splitlines()
    if names != ["all"]:
        rows = [next(row for row in rows if row.startswith(f"| `{name}`")) for name in names]
    return [head, line, *rows]


def _metrics(_: list[str]) -> list[str]:
    return _table(
        ("Metric", "Kind", "Labels", "What"),
        (
            (f"`{one.name}`", one.kind + (f", {one.unit}" if one.unit else ""), _code(one.labels), one.doc)
            for one in METRICS.values()
        ),
    )


def _alerts(_: list[str]) -> list[str]:
    return _table(("Alert", "Level", "When"), ((one.title, one.level, one.doc) for one in ALERTS))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


_MADE: dict[str, Callable[[list[str]], list[str]]] = {"settings": _settings, "metrics": _metrics, "alerts": _alerts}


def rendered(text: str) -> str:
    """*text* with its tables as they should be."""
    return _BETWEEN.sub(
        lambda found: "\n".join([found[1] + "\n".join(_MADE[found[2]](found[3].split())), found[4]]), text
    )


def main() -> int:
    """Exit 1 with --check when a table is not the code's."""
    stale = {page: made for page in PAGES if (made := rendered(text := page.read_text())) != text}
    if "--check" in sys.argv:
        return int(bool(stale))
    for page, made in stale.items():
        page.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
