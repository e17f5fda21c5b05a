"""An object that is up to no good, for calls that must never raise."""

from __future__ import annotations


class Odd:
    """Nothing of it works."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__
