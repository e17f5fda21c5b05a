"""Text -> value, for the settings table. Each raises ValueError that says what was expected."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from typing import Any

_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE = frozenset({"0", "false", "no", "off", "f", "n"})


def boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("expected true or false")


def number(low: float, high: float) -> Callable[[str], float]:
    def parse_number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # also refuses nan
            raise ValueError(f"expected a number from {low} to {high}")
        return value

    return parse_number


rate = number(0.0, 1.0)


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse_whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return parse_whole


def choice(*allowed: str) -> Callable[[str], str]:
    def parse_choice(text: str) -> str:
        word = text.strip().lower()
        if word not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return word

    return parse_choice


def names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def patterns(text: str) -> tuple[str, ...]:
    found = names(text)
    for pattern in found:
        try:
            re.compile(pattern)
        except re.error as exc:
            raise ValueError(f"expected regular expressions; {pattern!r} is none ({exc})") from None
    return found


def proxies(text: str) -> tuple[str, ...]:
    """A number of hops, or addresses and networks; `ipaddress` is imported only when there are any."""
    found = names(text)
    if len(found) == 1 and found[0].isdecimal():
        return found
    import ipaddress

    for one in found:
        try:
            ipaddress.ip_network(one, strict=False)
        except ValueError:
            raise ValueError(f"expected a number of hops, or addresses and networks; {one!r} is none") from None
    return found


def trace_url(text: str) -> str:
    """A URL with ``{trace_id}`` in it, and perhaps ``{span_id}``."""
    try:
        made = text.format(trace_id="0", span_id="0")
    except (KeyError, IndexError, ValueError, AttributeError):
        made = text
    if made == text or "{trace_id}" not in text or not made.startswith(("https://", "http://")):
        raise ValueError("expected a URL with {trace_id}, such as https://grafana.example/trace/{trace_id}")
    return text


def spotlight(text: str) -> str | None:
    """``1`` means the sidecar's default address; a URL is taken as it is; ``0`` is off."""
    word = text.strip()
    if word.lower() in _FALSE:
        return None
    if word.lower() in _TRUE:
        return "http://localhost:8969/stream"
    if word.startswith(("http://", "https://")):
        return word
    raise ValueError("expected 1 or a URL such as http://localhost:8969/stream")


def store(text: str) -> str:
    """Where business state is kept: ``memory``, or the URL of a Redis."""
    word = text.strip()
    if word.lower() == "memory":
        return "memory"
    if word.startswith(("redis://", "rediss://", "unix://")):
        return word
    raise ValueError("expected memory or a URL such as redis://localhost:6379/0")


def allow_list(text: str) -> tuple[str, ...]:
    """Names; ``0`` (or ``off``, ``none``) stands for none of them."""
    word = text.strip().lower()
    return () if word in _FALSE or word == "none" else names(text)


def subset(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    """Some of *allowed*; ``0`` (or ``off``, ``none``) stands for none of them."""

    def parse_subset(text: str) -> tuple[str, ...]:
        found = allow_list(text.lower())
        if not set(found) <= set(allowed):
            raise ValueError(f"expected some of {', '.join(allowed)}, or 0")
        return found

    return parse_subset


def task_policies(text: str) -> tuple[tuple[str, str], ...]:
    """``link`` for all tasks, ``reports.*=new`` for those that match; the first that fits counts."""
    found = []
    for part in names(text):
        pattern, sign, policy = part.rpartition("=")
        policy = policy.strip().lower()
        if policy not in ("child", "link", "new"):
            raise ValueError("expected child, link or new, or a list such as reports.*=new,link")
        found.append((pattern.strip() if sign else "*", policy))
    return tuple(sorted(found, key=lambda one: one[0] == "*"))


#: What people call a severity, and its name here.
SEVERITIES = {
    "critical": "critical", "fatal": "critical", "high": "error", "error": "error",
    "medium": "warning", "warning": "warning", "low": "info", "info": "info",
}  # fmt: skip


def alert_sinks(text: str) -> tuple[str, ...]:
    """``critical=pagerduty+slack,email`` as ``severity=sink`` each; a sink without a severity is for all four."""
    found = []
    for part in names(text):
        severity, sign, sinks = part.rpartition("=")
        wanted = SEVERITIES.get(severity.strip().lower())
        if sign and wanted is None:
            raise ValueError("expected severities (critical, error, warning, info) and sinks: critical=pagerduty+slack")
        for one in dict.fromkeys(SEVERITIES.values()) if wanted is None else (wanted,):
            found += [f"{one}={name.strip()}" for name in sinks.split("+") if name.strip()]
    return tuple(found)


class LazyHook:
    """A user's function named ``package.module:function``, imported at its first call.

    Not earlier: such modules import Django models, and settings are read before Django is ready.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._function: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            self._function = load_object(self.path)
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return self.path


def hook(text: str) -> LazyHook:
    module, _, function = text.partition(":")
    if not module or not function or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError("expected package.module:function")
    return LazyHook(text)


def fingerprints(text: str) -> Any:
    """Rules for grouping (`otel_sentry.convention.fingerprints`), or a function that is one."""
    if "->" not in text:
        return hook(text)
    from otel_sentry.convention.fingerprints import rules

    return rules(text)


def user_type(text: str) -> Any:
    """An attribute's name, or a function."""
    if text.isidentifier():
        return text
    try:
        return hook(text)
    except ValueError:
        raise ValueError("expected an attribute's name, or package.module:function") from None


def load_object(path: str) -> Any:
    """Import ``package.module:attribute``.

    Raises:
        ImportError, AttributeError: it is not there.

    """
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
