"""What was lost, by reason and category: the source of Sentry's client reports, `doctor` and the exit line.

Reasons and categories are those of Sentry's client report protocol (develop docs, "Client Reports").
"""

from __future__ import annotations

from collections.abc import Iterable

Loss = tuple[str, str, int]

_pending: dict[tuple[str, str], int] = {}
_totals: dict[tuple[str, str], int] = {}


def lost(reason: str, category: str, quantity: int = 1) -> None:
    """Count *quantity* items of *category* that will not reach Sentry because of *reason*.

    Safe in any thread and under the garbage collector: dict updates only. Two threads that race on one key may in
    theory lose one count, which is cheaper than a lock on every unsampled request.
    """
    if quantity <= 0:
        return
    key = (reason, category)
    _pending[key] = _pending.get(key, 0) + quantity
    _totals[key] = _totals.get(key, 0) + quantity


def drain() -> list[Loss]:
    """Take what was counted since the last call."""
    taken: list[Loss] = []
    while _pending:
        try:
            (reason, category), quantity = _pending.popitem()
        except KeyError:
            break
        taken.append((reason, category, quantity))
    return taken


def put_back(losses: Iterable[Loss]) -> None:
    """Return drained counts that could not be reported."""
    for reason, category, quantity in losses:
        key = (reason, category)
        _pending[key] = _pending.get(key, 0) + quantity


def snapshot() -> dict[tuple[str, str], int]:
    """Totals since the process began: ``{(reason, category): quantity}``."""
    return dict(_totals)


def reset() -> None:
    """Forget everything (tests, forked children)."""
    _pending.clear()
    _totals.clear()
