"""What travels with the code: user and business operation.

One immutable value in the OTel Context (inside ``with tag_business_operation(...)``), and one mutable holder per local
root: its segment record (decision 16), so that a user set after authentication is seen at the root's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from otel_sentry import guard, runtime
from otel_sentry.trace.segment import Segment, current_segment

if TYPE_CHECKING:
    from opentelemetry.context import Context

AMBIENT_KEY = otel_context.create_key("otel-sentry-ambient")
#: An `Ambient` that came with a message (`ambient.carry`): what the next local root begins with.
CARRIED_KEY = otel_context.create_key("otel-sentry-carried")
_PRIMITIVE = (str, int, float, bool)
#: Of one operation; a span has room for 128 attributes.
_MAX_DETAILS = 50
_MAX_TYPE = 100


@dataclass(frozen=True, slots=True)
class Business:
    """A business operation: its name, the module it belongs to and further details."""

    operation: str
    module: str | None = None
    details: Mapping[str, Any] | None = None

    def attributes(self) -> dict[str, Any]:
        """As span attributes; details that are no primitive values are written as text."""
        found: dict[str, Any] = {"business.operation": self.operation}
        if self.module:
            found["business.module"] = self.module
        for key, value in self._plain_details().items():
            found[f"business.{key}"] = value
        return found

    def as_context(self) -> dict[str, Any]:
        """As the block ``business_context`` of an issue."""
        return {"operation": self.operation, "module": self.module, "details": self._plain_details()}

    def _plain_details(self) -> dict[str, Any]:
        """No `str` of the program's objects: that may run a query, whose span would come back here."""
        if not self.details:
            return {}
        from otel_sentry.logs import text_of

        return {
            key: value if isinstance(value, _PRIMITIVE) else text_of(value, 1000)
            for key, value in islice(self.details.items(), _MAX_DETAILS)
        }


@dataclass(frozen=True, slots=True)
class Ambient:
    """The value in force at one place of the code."""

    user: Mapping[str, Any] | None = None
    business: Business | None = None


_NOTHING = Ambient()


def current(segment: Segment | None = None, context: Context | None = None) -> Ambient:
    """What is in force here: the Context's value, completed by that of the segment (default: the current one)."""
    value = otel_context.get_value(AMBIENT_KEY, context)
    ambient = value if isinstance(value, Ambient) else _NOTHING
    segment = segment or current_segment()
    if segment is None:
        carried = otel_context.get_value(CARRIED_KEY, context)
        return carried if ambient is _NOTHING and isinstance(carried, Ambient) else ambient
    if ambient.user is None and segment.user is not None:
        ambient = replace(ambient, user=segment.user)
    if ambient.business is None and segment.business is not None:
        ambient = replace(ambient, business=segment.business)
    return ambient


def attributes_for(segment: Segment | None, context: Context | None, parts: tuple[str, ...]) -> dict[str, Any] | None:
    """The attributes that a span starting now gets; None when there are none (the usual case, kept cheap)."""
    value = otel_context.get_value(AMBIENT_KEY, context)
    user = value.user if isinstance(value, Ambient) else None
    business = value.business if isinstance(value, Ambient) else None
    if segment is not None:
        user = user or segment.user
        business = business or segment.business
    elif isinstance(carried := otel_context.get_value(CARRIED_KEY, context), Ambient):  # a provider without segments
        user, business = user or carried.user, business or carried.business
    if user is None and business is None:
        return None
    found: dict[str, Any] = {}
    if user is not None and "user" in parts:
        found.update(user_attributes(user))
    if business is not None and "business" in parts:
        found.update(business.attributes())
    return found


def user_attributes(user: Mapping[str, Any]) -> dict[str, Any]:
    """The user's id and type; never e-mail, name or address: those are for issues, and only with PII on."""
    return {
        name: str(user[key])
        for key, name in (("id", "user.id"), ("user_type", "user_type"))
        if user.get(key) is not None
    }


def loaded_user(user: Any) -> dict[str, Any] | None:
    """What a Django user object already knows, without a query: only its instance dictionary is read."""
    values = _own_values(user)
    if "_wrapped" in values:  # SimpleLazyObject: look inside it, unless it is still unevaluated
        user = values["_wrapped"]
        values = _own_values(user)
    if type(user).__name__ == "AnonymousUser":
        return {"user_type": "anonymous"}
    if not values:
        return None
    meta = getattr(type(user), "_meta", None)
    primary_key = values.get(meta.pk.attname) if meta is not None else values.get("id")
    if primary_key is None:
        return None
    found: dict[str, Any] = {"id": str(primary_key), "user_type": _type_of(user, values)}
    for key in ("email", "username"):
        if values.get(key):
            found[key] = str(values[key])
    return found


def _type_of(user: Any, values: Mapping[str, Any]) -> str:
    """By `OTEL_SENTRY_USER_TYPE`; where that says nothing, by the default rule."""
    current = runtime.get()
    wanted = current.settings.user_type if current is not None else None
    found = None
    if callable(wanted):
        with guard.block("the user_type function"):
            found = wanted(user)
    elif wanted:
        found = values.get(wanted)
    if found is not None and found != "":
        return str(found)[:_MAX_TYPE]
    if values.get("is_staff") or values.get("is_superuser"):
        return "admin"
    return str(values.get("user_type") or "customer")[:_MAX_TYPE]


def _own_values(thing: Any) -> dict[str, Any]:
    try:
        values = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return values if isinstance(values, dict) else {}


@guard.call("set_user")
def set_user(user: Any = None, /, **fields: Any) -> None:
    """Say who the current request, task or command is for.

    Args:
        user: a Django user, a mapping or an id.
        fields: further fields: ``user_type``, ``email``, ``username``, ``ip_address``. The last three leave the process
            only with ``SENTRY_SEND_DEFAULT_PII``.

    Outside of a request, task or span it does nothing: there would be no end at which to forget the user.
    """
    from otel_sentry.errors import user_fields

    segment = current_segment()
    if segment is None:
        return
    value = {**(user_fields(user) or {}), **fields}
    for key in ("id", "user_type"):  # once, and here: each span and log record is going to have them
        if not isinstance(value.get(key), str | int | None):
            value[key] = str(value[key])
    segment.user = value or None
    if value:
        get_current_span().set_attributes(user_attributes(value))


@guard.call("set_business_context")
def set_business_context(operation: str, module: str | None = None, **details: Any) -> None:
    """Name the business operation of the current request, task or command, from here to its end."""
    segment = current_segment()
    if segment is None:
        return
    segment.business = Business(str(operation), None if module is None else str(module), details or None)
    get_current_span().set_attributes(segment.business.attributes())


def remember_business(exc: BaseException, business: Business) -> None:
    """An exception that leaves the block is reported outside of it: it takes the innermost operation along.

    As plain values: exceptions are pickled, by Celery for one, and read where we are not installed.
    """
    if business_of(exc) is None:
        try:
            exc.__otel_sentry_business__ = business.as_context()  # type: ignore[attr-defined]
        except (AttributeError, TypeError):  # exceptions with __slots__
            pass


def business_of(exc: BaseException) -> dict[str, Any] | None:
    """The block ``business_context`` of the innermost operation that *exc* left."""
    mark = getattr(exc, "__otel_sentry_business__", None)
    return mark if isinstance(mark, dict) else None


from otel_sentry.ambient import journey as journey  # noqa: E402 - registers with `carry`
from otel_sentry.ambient.carry import carried as carried  # noqa: E402 - it needs what is above
from otel_sentry.ambient.carry import restore as restore  # noqa: E402
from otel_sentry.ambient.trail import crumb as crumb  # noqa: E402
