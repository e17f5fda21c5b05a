"""Which variants of rollouts are at work in the current request or task: for its errors and for its metrics.

They are tags ``rollout.<feature>`` of the segment, so that events and transactions can be searched by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_sentry.trace.segment import current_segment

_PREFIX = "rollout."
#: Rollouts of one segment, and of one label of a metric.
_MAX = 50
_MAX_IN_LABEL = 3
_ON = frozenset({"on", "true", "enabled", "yes", "1"})
_OFF = frozenset({"off", "false", "disabled", "no", "0", "control", "none"})


def note(feature: str, variant: str) -> None:
    """*feature* runs as *variant* from here to the end of the current request or task."""
    segment = current_segment()
    if segment is None:
        return
    key = f"{_PREFIX}{feature}"[:200]
    if key in segment.tags or len(segment.tags) < _MAX:
        segment.tags[key] = variant[:200]


def label() -> str | None:
    """The variants at work here as one label, ``checkout=b``; None: none."""
    segment = current_segment()
    if segment is None or not segment.tags:
        return None
    found = sorted(f"{key[len(_PREFIX) :]}={value}" for key, value in segment.tags.items() if key.startswith(_PREFIX))
    return ",".join(found[:_MAX_IN_LABEL]) or None


def flags(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """The variants among *tags* as Sentry's ``contexts.flags.values``.

    Sentry knows flags that are on or off. A variant of another name is a flag of its own, ``checkout:b``.
    """
    found: list[dict[str, Any]] = []
    for key, variant in tags.items():
        if key.startswith(_PREFIX):
            feature, word = key[len(_PREFIX) :], variant.lower()
            if word in _ON or word in _OFF:
                found.append({"flag": feature, "result": word in _ON})
            else:
                found.append({"flag": f"{feature}:{variant}", "result": True})
    return found
