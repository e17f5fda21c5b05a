"""What was lost, by reason and category: the source of Sentry's client reports, `doctor` and the exit line.

Reasons and categories are those of Sentry's client report protocol (develop docs, "Client Reports").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

Loss = tuple[str, str, int]

_pending: defaultdict[tuple[str, str], int] = defaultdict(int)
_totals: defaultdict[tuple[str, str], int] = defaultdict(int)


def lost(reason: str, category: str, quantity: int = 1) -> None:
    """Count *quantity* items of *category* that will not reach Sentry because of *reason*.

    Safe in any thread and under the garbage collector without a lock: no call happens between reading and writing a
    count, so that the interpreter does not switch threads there.
    """
    if quantity <= 0:
        return
    key = (reason, category)
    _pending[key] += quantity
    _totals[key] += quantity


def take_back(reason: str, category: str, quantity: int = 1) -> None:
    """What was counted as lost is sent after all. Reported already, it is set off against the next ones."""
    key = (reason, category)
    _pending[key] -= quantity
    _totals[key] -= quantity


def drain() -> list[Loss]:
    """Take what was counted since the last call."""
    taken: list[Loss] = []
    owed: list[Loss] = []
    while _pending:
        try:
            (reason, category), quantity = _pending.popitem()
        except KeyError:
            break
        (taken if quantity > 0 else owed).append((reason, category, quantity))
    put_back(loss for loss in owed if loss[2])
    return taken


def put_back(losses: Iterable[Loss]) -> None:
    """Return drained counts that could not be reported."""
    for reason, category, quantity in losses:
        _pending[reason, category] += quantity


def snapshot() -> dict[tuple[str, str], int]:
    """Totals since the process began: ``{(reason, category): quantity}``."""
    return dict(_totals)


def reset() -> None:
    """Forget everything (tests, forked children)."""
    _pending.clear()
    _totals.clear()
