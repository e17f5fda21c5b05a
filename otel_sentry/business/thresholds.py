"""Security patterns: how often within how long (business.md 6), and the text form of the setting."""

from __future__ import annotations

#: Pattern -> events, seconds. All but the last two break out for one account, one user or one address.
PATTERNS: dict[str, tuple[int, float]] = {
    "brute_force_account": (10, 300.0),
    "brute_force_address": (20, 300.0),
    "suspicious_operations": (10, 300.0),
    "forbidden_burst": (20, 60.0),
    "not_found_burst": (50, 60.0),
    "new_address_after_failures": (3, 900.0),
    "authentication_failures": (20, 300.0),
}
_MOST = 1000


def security_patterns(text: str) -> tuple[tuple[str, tuple[int, float]], ...]:
    """``brute_force_account=5/300,not_found_burst=0``: what is not named keeps its default, 0 turns one off."""
    found: dict[str, tuple[int, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, figures = part.partition("=")
        count, _, seconds = figures.partition("/")
        known = PATTERNS.get(name.strip())
        try:
            one = int(count), float(seconds) if seconds else known[1] if known else 0.0
        except ValueError:
            one = -1, 0.0
        if known is None or not (0 <= one[0] <= _MOST and 1 <= one[1] <= 86_400):
            raise ValueError(f"expected <pattern>=<events up to {_MOST}>/<seconds>, of {', '.join(PATTERNS)}")
        found[name.strip()] = one
    return tuple(found.items())
