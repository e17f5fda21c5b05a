"""A span's locks, made safe for code that interrupts its own thread: signal handlers, and what the garbage collector
runs. The SDK's are not re-entrant: a handler that describes the span which its thread is just describing would wait
for itself, for ever.
"""

from __future__ import annotations

import threading
from typing import Any


def make_reentrant(span: Any) -> None:
    """Give a span that has just begun, and its attributes, events and links, one re-entrant lock for all four."""
    try:
        span._lock = span._attributes._lock = span._events._lock = span._links._lock = threading.RLock()
    except AttributeError:  # another class of spans
        pass
