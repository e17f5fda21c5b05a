"""Security events that are one thing together: many within a while, of one account, user or address.

The request's thread only hands an event to the business worker, which counts in the store that all processes share, or
in this process while that is away. A pattern that has broken out is told once in its window. Bounded: a window keeps no
more events of one subject than it takes, and a process begins at most `MAX_SUBJECTS` subjects of a pattern in a window.
In the store subjects are keyed hashes.
"""

from __future__ import annotations

import contextvars
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from otel_sentry import counters, guard, runtime
from otel_sentry.business import worker
from otel_sentry.business.thresholds import PATTERNS
from otel_sentry.trace.segment import Segment, current_segment

if TYPE_CHECKING:
    from otel_sentry.business.memory import Memory
    from otel_sentry.business.security import Who
    from otel_sentry.business.store import Document, Store
    from otel_sentry.settings import Settings

T = TypeVar("T")

#: Accounts, users or addresses of one pattern that a process begins to count in one window.
MAX_SUBJECTS = 5_000
#: Addresses that an account is known to come from, and for how long it is remembered.
_MAX_ADDRESSES = 20
_REMEMBERED_S = 30 * 86_400.0
#: Parts of the sliding window of logins, and what a failed one adds to a part's counter (a login adds 1).
_PARTS = 5
_FAILED = 10**7
#: Share of logins that failed from which it is the system.
_SHARE = 0.5
_TITLES = {
    "brute_force_account": "Brute force against one account: {count} failed logins",
    "brute_force_address": "Brute force from one address: {count} failed logins",
    "suspicious_operations": "Suspicious operations from one address: {count}",
    "forbidden_burst": "Many requests refused: {count}",
    "not_found_burst": "Many requests for what is not there: {count}",
    "new_address_after_failures": "Login from a new address after {count} or more failures",
}


class Subject(NamedTuple):
    """Who is counted: *what* is "account", "user" or "address"."""

    what: str
    value: str


class Place(NamedTuple):
    """Where an event happened: its request may be over when the pattern breaks out."""

    context: contextvars.Context
    segment: Segment | None


class _Seen:
    """The subjects of one pattern in one window of this process: has it broken out?"""

    __slots__ = ("began", "subjects")

    def __init__(self, began: float) -> None:
        self.began = began
        self.subjects: dict[Any, bool] = {}


_seen: dict[str, _Seen] = {}
#: One for each pattern, so that a flood of addresses forgets nothing else.
_own: dict[str, Memory] = {}


def by_user(who: Who) -> Subject | None:
    """The user, where one is signed in; else the address."""
    return Subject("user", who.user_id) if who.user_id else by_address(who)


def by_address(who: Who) -> Subject | None:
    return Subject("address", who.address) if who.address else None


@guard.call("security pattern")
def watch(kind: str, subject: Subject | None) -> None:
    """Note an event of *subject* for a pattern. Cheap; for the request's thread."""
    rule = _rule(kind)
    if rule is not None and subject is not None:
        worker.submit(_count, kind, subject, rule, _here())


@guard.call("security pattern")
def login_failed(who: Who) -> None:
    for name in who.accounts[:1]:
        watch("brute_force_account", Subject("account", name))
        rule = _rule("new_address_after_failures")
        if rule is not None:
            worker.submit(_failure, name, rule[1])
    watch("brute_force_address", by_address(who))
    _logins(True)


@guard.call("security pattern")
def logged_in(who: Who) -> None:
    rule = _rule("new_address_after_failures")
    if rule is not None and who.user_id and who.address:
        worker.submit(_came_in, who, rule, _here())
    _logins(False)


def _logins(failed: bool) -> None:
    rule = _rule("authentication_failures")
    if rule is not None:
        worker.submit(_share, failed, rule, _here())


def _here() -> Place:
    return Place(contextvars.copy_context(), current_segment())


def _rule(kind: str) -> tuple[int, float] | None:
    """Events and seconds; None where the pattern, or all of them, are off."""
    current = runtime.get()
    if current is None or not current.settings.security:
        return None
    rule = _rules(current.settings)[kind]
    return rule if rule[0] else None


@functools.lru_cache(maxsize=4)
def _rules(settings: Settings) -> dict[str, tuple[int, float]]:
    return PATTERNS | dict(settings.security_patterns)


# What follows runs on the worker.


def _count(kind: str, subject: Subject, rule: tuple[int, float], place: Place) -> None:
    if subject.what == "address":
        subject = Subject("address", network_of(subject.value))
    count, seconds = rule
    if not _admit(kind, subject, seconds):
        return
    from otel_sentry.business.security import hashed

    key = f"{kind}:{subject.what}-{hashed(subject.value)}"
    if _ask(kind, lambda store: store.window(f"security:{key}", seconds, limit=count)) >= count:
        _break_out(kind, key, subject, rule, place)


def _admit(kind: str, subject: Any, seconds: float) -> bool:
    """Is this one to be counted? Not after it has broken out, and not past the bound."""
    now = time.monotonic()
    seen = _seen.get(kind)
    if seen is None or now - seen.began >= seconds:
        seen = _seen[kind] = _Seen(now)
    told = seen.subjects.get(subject)
    if told is None:
        if len(seen.subjects) >= MAX_SUBJECTS:
            counters.lost("queue_overflow", "business")
            guard.say_once(f"security:{kind}", f"more than {MAX_SUBJECTS} subjects of {kind} in {seconds:g} s")
            return False
        seen.subjects[subject] = False
    return not told


def _ask(table: str, function: Callable[[Store], T]) -> T:
    """Ask the store; this process's memory where there is none, or while it can't be reached."""
    from otel_sentry.business import store
    from otel_sentry.business.memory import Memory

    chosen = store.get()
    if not isinstance(chosen, Memory):
        try:
            return function(chosen)
        except store.Unavailable:
            pass
    return function(_own.setdefault(table, Memory()))


def _break_out(
    kind: str,
    key: str,
    subject: Subject,
    rule: tuple[int, float],
    place: Place,
    address: str | None = None,
) -> None:
    _seen[kind].subjects[subject] = True
    if _ask(kind, lambda store: store.first(f"security:told:{key}", rule[1])):
        place.context.run(_tell, kind, subject, rule, place.segment, address)


def _tell(kind: str, subject: Subject, rule: tuple[int, float], segment: Segment | None, address: str | None) -> None:
    """Count, write and alert, as if the request did it."""
    from otel_sentry.business import alerts, security

    current = runtime.get()
    if current is None:
        return
    what, value = subject
    address = value if what == "address" else address
    security.incident(
        kind, security.Who(value if what == "user" else None, address, (value,) if what == "account" else ())
    )
    name = value if what == "user" else security.shown(value, current.settings)
    details: dict[str, Any] = {"kind": kind, what: name, "count": rule[0], "window_s": rule[1]}
    if address:
        details["address"] = security.shown(address, current.settings)
    attack = kind.startswith(("brute_force", "suspicious"))
    message = f"{_TITLES[kind].format(count=rule[0])} within {rule[1]:g} s ({what} {name})"
    alerts.trigger(kind, "critical" if attack else "warning", message, details, segment)


def _failure(account: str, seconds: float) -> None:
    if _admit("failures", account, seconds):
        key = _failures_of(account)
        _ask("failures", lambda store: store.add(key, 1, seconds))


def _failures_of(account: str) -> str:
    from otel_sentry.business.security import hashed

    return f"security:failures:{hashed(account)}"


def _came_in(who: Who, rule: tuple[int, float], place: Place) -> None:
    from otel_sentry.business.security import hashed

    kind, keys = "new_address_after_failures", [_failures_of(name) for name in dict.fromkeys(who.accounts)]
    failures = _ask("failures", lambda store: sum(store.take(key) for key in keys))
    subject, address = Subject("user", str(who.user_id)), network_of(str(who.address))
    user = hashed(subject.value)
    is_new = _ask("addresses", lambda store: _is_new(store, user, hashed(address)))
    if is_new and failures >= rule[0] and _admit(kind, subject, rule[1]):
        _break_out(kind, f"{kind}:user-{user}", subject, rule, place, address)


def _is_new(store: Store, user: str, address: str) -> bool:
    """Note where a user comes from. Nothing is new of one whom nothing is known of."""
    found = [False]

    def change(known: Document | None) -> Document:
        addresses: list[str] = (known or {}).get("addresses", [])
        found[0] = bool(addresses) and address not in addresses
        rest = [one for one in addresses if one != address]
        return {"addresses": [*rest, address][-_MAX_ADDRESSES:]}

    store.change(f"security:addresses:{user}", change, _REMEMBERED_S)
    return found[0]


def _share(failed: bool, rule: tuple[int, float], place: Place) -> None:
    """The share of logins that failed, in a window that moves on by a fifth of it."""
    kind = "authentication_failures"
    count, seconds = rule
    if not _admit(kind, "all", seconds):
        return
    part = int(time.time() / seconds * _PARTS)
    amounts = [1 + _FAILED if failed else 1] + ([0] * (_PARTS - 1) if failed else [])
    keys = [f"security:logins:{part - ago}" for ago in range(len(amounts))]
    values = _ask(kind, lambda store: [store.add(*one, 2 * seconds) for one in zip(keys, amounts, strict=True)])
    failures, total = sum(value // _FAILED for value in values), sum(value % _FAILED for value in values)
    if not failed or total < count or failures <= _SHARE * total:
        return
    _seen[kind].subjects["all"] = True
    if _ask(kind, lambda store: store.first(f"security:told:{kind}", seconds)):
        place.context.run(_tell_share, failures, total, seconds, place.segment)


def _tell_share(failures: int, total: int, seconds: float, segment: Segment | None) -> None:
    from otel_sentry.business import alerts

    alerts.trigger(
        "authentication_failures",
        "critical",
        f"Authentication system failure: most logins within {seconds:g} s failed",
        {"failed": failures, "logins": total, "window_s": seconds},
        segment,
    )


def network_of(address: str) -> str:
    """The address; of IPv6 the /64, which one subscriber has whole."""
    if ":" not in address:
        return address
    import ipaddress

    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), 64), strict=False))


def reset() -> None:
    """Forget everything that this process has counted (tests)."""
    _seen.clear()
    _own.clear()
