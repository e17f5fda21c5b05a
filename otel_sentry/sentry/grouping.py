"""Which issue an event belongs to: fingerprints that a stack trace alone does not give (business.md 4).

An explicit fingerprint wins, then the user's rules, then the presets. What is left keeps Sentry's own grouping, told
apart by the dimensions of `OTEL_SENTRY_GROUP_BY`; with nothing known there is no fingerprint at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otel_sentry import guard
from otel_sentry.convention.constraints import constraint_of
from otel_sentry.convention.fingerprints import Rule, rules
from otel_sentry.convention.kinds import OTHER, kind_of, unreachable, upstream_of

if TYPE_CHECKING:
    from otel_sentry.settings import Settings
    from otel_sentry.trace.segment import Segment

DEFAULT = "{{ default }}"
#: Loggers whose messages are alerts and slow operations of ours, no errors.
_OURS = "otel_sentry"
_MAX_PARTS = 20
_MAX_PART = 200


def apply(event: dict[str, Any], exc: BaseException | None, segment: Segment | None, settings: Settings) -> None:
    """Put kind and fingerprint on *event*, whose other blocks are complete."""
    kind = _kind(event, exc)
    told = bool(_tags(event).get("error_type"))
    if not told and kind not in (None, OTHER):
        event["tags"] = {**(event.get("tags") or {}), "error_type": kind}
    if event.get("fingerprint"):
        return
    found = _by_rules(event, exc, kind, settings)
    if not found and "presets" in settings.group_by:
        found = _by_presets(exc, segment)
    found = found or _by_dimensions(event, kind, told, settings.group_by)
    if found:
        event["fingerprint"] = [str(part)[:_MAX_PART] for part in found[:_MAX_PARTS]]


def labels(event: Mapping[str, Any], exc: BaseException | None, segment: Segment | None) -> dict[str, str] | None:
    """What the counter ``app.errors`` is counted by; None: *event* is no error."""
    is_error = exc is not None or bool(event.get("exception"))
    if not is_error and (event.get("level") not in ("error", "fatal") or str(event.get("logger")).startswith(_OURS)):
        return None
    found = {"kind": _kind(event, exc) or OTHER}
    module = _business(event).get("module") or module_of(segment)
    if module:
        found["module"] = str(module)
    if unreachable(exc) is not None:
        found["connection"] = "true"
    return found


def _kind(event: Mapping[str, Any], exc: BaseException | None) -> str | None:
    """The program's own word (the tag ``error_type``) beats ours; None for a message without one."""
    said = _tags(event).get("error_type")
    return str(said) if said else kind_of(exc) if exc is not None else None


def module_of(segment: Segment | None) -> str | None:
    """The part of the business that a request or task belongs to, as far as it is known."""
    root = (segment.root or segment.live_root) if segment is not None else None
    if segment is None or root is None:
        return None
    from otel_sentry.business import roots

    return roots.module_of(segment, root)


def _business(event: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (event.get("contexts") or {}).get("business_context")
    return found if isinstance(found, Mapping) else {}


def _tags(event: Mapping[str, Any]) -> Mapping[str, Any]:
    found = event.get("tags")
    return found if isinstance(found, Mapping) else {}


def _by_dimensions(event: Mapping[str, Any], kind: str | None, told: bool, wanted: tuple[str, ...]) -> list[str] | None:
    business = _business(event)
    operation = business.get("operation")
    known = {
        "operation": operation,
        "action": business.get("journey_step") or operation or event.get("transaction"),
        "who": (event.get("user") or {}).get("user_type"),
    }
    parts = [str(value) for name, value in known.items() if name in wanted and value]
    # The kind follows from the exception: alone it says nothing new, unless it was given, or is all that is asked for.
    if "kind" in wanted and kind not in (None, OTHER) and (parts or told or wanted == ("kind",)):
        parts.append(str(kind))
    return [DEFAULT, *dict.fromkeys(parts)] if parts else None


def _by_presets(exc: BaseException | None, segment: Segment | None) -> list[str] | None:
    """What is one fault wherever it shows: no part of the place in it."""
    if exc is None:
        return None
    away = unreachable(exc)
    if away is not None:
        return [f"{away}-unreachable"]
    upstream = upstream_of(exc)
    if upstream is not None:
        return ["upstream", upstream[0], str(upstream[1])]
    names = {cls.__name__ for cls in type(exc).__mro__}
    if "IntegrityError" in names:
        constraint = constraint_of(exc)
        return ["constraint", constraint] if constraint else None
    if "SoftTimeLimitExceeded" in names:
        root = segment.live_root or segment.root if segment is not None else None
        task = (getattr(root, "attributes", None) or {}).get("celery.task_name")
        return ["celery", type(exc).__name__, str(task)] if task else None  # as the Celery hook does
    return None


def _by_rules(
    event: dict[str, Any], exc: BaseException | None, kind: str | None, settings: Settings
) -> list[str] | None:
    own = settings.fingerprints
    if callable(own):
        with guard.block("the fingerprint rule"):
            found = own(event, exc)
            return list(found) if isinstance(found, list | tuple) and found else None
        return None
    if not own:
        return None
    facts = {
        "type": _types(event, exc),
        "message": _messages(event),
        "operation": [str(_business(event).get("operation") or "")],
        "kind": [kind or ""],
    }
    for given in own:
        for rule in (given,) if isinstance(given, Rule) else rules(str(given)):
            if rule.fits(facts):
                return list(rule.parts)
    return None


def _types(event: Mapping[str, Any], exc: BaseException | None) -> list[str]:
    """Names of the exception's classes, bare and with their module: a rule for a class holds for those below it."""
    if exc is not None:
        classes = type(exc).__mro__[:-1]
        return [name for cls in classes for name in (cls.__name__, f"{cls.__module__}.{cls.__qualname__}")]
    return [str(one.get("type") or "") for one in _values(event)]


def _messages(event: Mapping[str, Any]) -> list[str]:
    entry = event.get("logentry") or {}
    texts = [one.get("value") for one in _values(event)[-1:]]
    texts += [event.get("message"), entry.get("formatted"), entry.get("message")]
    return [str(text) for text in texts if text]


def _values(event: Mapping[str, Any]) -> list[Any]:
    found = event.get("exception")
    values = found.get("values") if isinstance(found, Mapping) else found
    return [one for one in values or () if isinstance(one, Mapping)]
