"""Work for the sender's thread: something to do there, now or later, that may send something itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_sentry.sentry.outgoing import Categories, Envelope


class Errand:
    """An `Outgoing` that calls *function* once, *delay* seconds from now; a flush does not wait that long.

    It may be evicted from a full queue: who needs it puts another one.
    """

    __slots__ = ("_function", "not_before")

    size = 200
    #: Nothing is lost with it, and no rate limit concerns it.
    categories: Categories = ()

    def __init__(self, function: Callable[[], None], delay: float = 0.0) -> None:
        self._function = function
        self.not_before = time.monotonic() + delay if delay else 0.0

    def ready(self, now: float) -> bool:
        """Is it time?"""
        return now >= self.not_before

    def encode(self) -> Envelope | None:
        """Do it. There is nothing to send for the errand itself."""
        self._function()
        return None
