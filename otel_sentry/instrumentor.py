"""What our subclasses of contrib's instrumentors share."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T", bound="OneInstance")


class OneInstance:
    """Mixin, first among the bases: one instance for contrib's class and ours.

    `BaseInstrumentor` keeps one instance for each class. An application that calls contrib's ``instrument()`` as well
    must meet ours there, or everything would be instrumented twice.
    """

    def __new__(cls: type[T], *args: Any, **kwargs: Any) -> T:
        contrib: Any = next(
            base for base in cls.__mro__ if base.__module__.startswith("opentelemetry.instrumentation.")
        )
        former = contrib._instance
        if not isinstance(former, cls):
            contrib._instance = object.__new__(cls)
            contrib._instance.__dict__.update(former.__dict__ if former else {})
        instance: T = contrib._instance
        return instance
