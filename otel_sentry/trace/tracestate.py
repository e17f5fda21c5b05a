"""Sentry's decision as ONE W3C tracestate member: ``sentry=s:1;r:0.25;x:0.123456``.

It survives hops that forward W3C headers but drop baggage, and it is the only state that reaches a non-recording span.
``s`` is the decision (absent: deferred), ``r`` the sample rate, ``x`` the trace's random number.
"""

from __future__ import annotations

from dataclasses import dataclass

KEY = "sentry"


@dataclass(frozen=True, slots=True)
class Decision:
    """Sentry's sampling decision for one local root.

    *sampled* is None when the decision was left to somebody downstream ("deferred").
    """

    sampled: bool | None
    sample_rate: float | None = None
    sample_rand: float | None = None


def format_member(decision: Decision) -> str:
    """The value of the tracestate member; empty when there is nothing to say."""
    parts = []
    if decision.sampled is not None:
        parts.append(f"s:{int(decision.sampled)}")
    if decision.sample_rate is not None:
        parts.append(f"r:{decision.sample_rate:.6g}")
    if decision.sample_rand is not None:
        parts.append(f"x:{decision.sample_rand:.6f}")
    return ";".join(parts)


def parse_member(value: str | None) -> Decision | None:
    """Read a member back. Whatever is malformed counts as absent; never raises."""
    if not value or len(value) > 64:
        return None
    items = dict(part.split(":", 1) for part in value.split(";") if ":" in part)
    sampled = {"0": False, "1": True}.get(items.get("s", ""))
    rate = unit_float(items.get("r"), upper_closed=True)
    rand = unit_float(items.get("x"))
    if sampled is None and rate is None and rand is None:
        return None
    return Decision(sampled, rate, rand)


def unit_float(text: str | None, *, upper_closed: bool = False) -> float | None:
    """A number in [0, 1) (or [0, 1] with *upper_closed*), else None."""
    if not text or len(text) > 32:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1 or (upper_closed and number == 1) else None
