"""The database constraint that an exception is about: its name, never the values that broke it."""

from __future__ import annotations

_MAX_DEPTH = 5
_MAX_NAME = 128


def constraint_of(exc: BaseException | None) -> str | None:
    """The name of the constraint that *exc*, or what it was raised from, broke; None where the driver says none.

    psycopg and psycopg2 have it in ``diag.constraint_name``, asyncpg in ``constraint_name``. Django's `IntegrityError`
    has the driver's as its cause.
    """
    for _ in range(_MAX_DEPTH):
        if exc is None:
            break
        name = getattr(getattr(exc, "diag", None), "constraint_name", None) or getattr(exc, "constraint_name", None)
        if isinstance(name, str):
            return name[:_MAX_NAME]
        exc = exc.__cause__
    return None
