"""What the rules of the families see, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.trace import SpanKind


class Meaning(NamedTuple):
    """What a rule says. *description* None: no text of its own; *op* None: Relay fills in `default`."""

    op: str | None
    description: str | None
    name: str
    source: str


class View:
    """One span as the rules see it: `data` has canonical names and may be completed by the rule."""

    __slots__ = ("data", "folded", "is_root", "kind", "library", "name", "style")

    def __init__(
        self,
        name: str,
        kind: SpanKind | None,
        data: dict[str, Any],
        folded: Mapping[str, Any],
        library: str,
        is_root: bool,
        style: str,
    ) -> None:
        self.name = name
        self.kind = kind
        self.data = data
        self.folded = folded
        self.library = library
        self.is_root = is_root
        self.style = style
