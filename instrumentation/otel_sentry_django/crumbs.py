"""Breadcrumbs that Django's and REST framework's own checks leave: who it was, may he do it, is it valid.

Names of permissions, forms and failing fields only, never values. A request pays about a microsecond for each.
Imports neither Django nor REST framework: their modules are wrapped when they have been imported.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from time import time
from typing import Any

import wrapt
from asgiref.sync import iscoroutinefunction

from otel_sentry import guard
from otel_sentry.trace.segment import Segment, current_segment

_MARK = "_otel_sentry_crumb"
#: Names of failing fields that are shown.
_MAX_FIELDS = 20
#: With so many crumbs left, checks that passed leave no more: an admin page asks for hundreds of permissions.
_ENOUGH = 20
_MAX = 100
_MAX_FORMS = 500

_SIGNED_IN, _ANONYMOUS = "Authentication check: signed in", "Authentication check: anonymous"

#: The breadcrumbs of the request that is being answered.
_left: ContextVar[list[Any] | None] = ContextVar("otel_sentry_crumbs", default=None)
_installed = False


def of_request(segment: Segment) -> None:
    """From here on breadcrumbs are left in *segment*: to look for it at each of them would cost most of it all.

    Nothing takes that back. Where the request has ended they go nowhere, until the next one.
    """
    segment.crumbs = []
    _left.set(segment.crumbs)


def install() -> None:
    """Wrap the checks, now or when they are imported. Calling it again does nothing."""
    global _installed
    if _installed:
        return
    _installed = True
    for name, hook in (
        ("django.contrib.auth", _auth),
        ("django.contrib.auth.decorators", decorators),
        ("django.contrib.auth.models", _models),
        ("django.forms.forms", _forms),
        ("rest_framework.views", _views),
        ("rest_framework.serializers", _serializers),
    ):
        wrapt.register_post_import_hook(hook, name)


def _auth(module: Any) -> None:
    """Where a session's user is looked up: once for each request that asks for him."""
    _after(module, "aget_user", _resolved)
    call = module.get_user
    if hasattr(call, _MARK):
        return

    @functools.wraps(call)
    def get_user(request: Any) -> Any:
        user = call(request)
        message = _ANONYMOUS if type(user).__name__ == "AnonymousUser" else _SIGNED_IN
        _note("auth", message)
        return user

    setattr(get_user, _MARK, True)
    module.get_user = get_user


def _models(module: Any) -> None:
    for owner in (module.PermissionsMixin, module.AnonymousUser):
        for name in ("has_perm", "ahas_perm"):
            _after(owner, name, _asked)


def _forms(module: Any) -> None:
    call = module.BaseForm.full_clean
    if hasattr(call, _MARK):
        return

    @functools.wraps(call)
    def full_clean(self: Any) -> None:
        call(self)
        if self.is_bound:
            errors = self.__dict__.get("_errors")
            if errors:
                _invalid(self, errors)
            else:
                _note("validation", _valid[type(self)])

    setattr(full_clean, _MARK, True)
    module.BaseForm.full_clean = full_clean


def _views(module: Any) -> None:
    _after(module.APIView, "perform_authentication", _authenticated)
    _after(module.APIView, "check_permissions", _permitted)


def _serializers(module: Any) -> None:
    for owner in (module.BaseSerializer, module.ListSerializer):
        if "is_valid" in vars(owner):
            _after(owner, "is_valid", _validated)


def decorators(module: Any) -> None:
    """`login_required` and the like are made of it, when views are imported: the earlier, the better."""
    make = module.user_passes_test
    if hasattr(make, _MARK):
        return

    @functools.wraps(make)
    def user_passes_test(test_func: Callable[[Any], Any], *args: Any, **kwargs: Any) -> Any:
        # asgiref's, as Django asks: taken for sync, the coroutine of a callable object would pass for True.
        return make(test_func if iscoroutinefunction(test_func) else _test(test_func), *args, **kwargs)

    setattr(user_passes_test, _MARK, True)
    module.user_passes_test = user_passes_test


def _test(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    name = getattr(function, "__qualname__", type(function).__name__).partition(".<locals>")[0]

    @functools.wraps(function, updated=())
    def test(user: Any) -> Any:
        passed = function(user)
        _permission(name, bool(passed))
        return passed

    return test


def _after(owner: Any, name: str, note: Callable[[tuple[Any, ...], Any, bool], None]) -> None:
    """Have *note* called with the arguments and the result of *owner*'s function, and whether it returned at all."""
    call = vars(owner).get(name)
    if call is None or hasattr(call, _MARK):
        return
    wrapper: Any
    if inspect.iscoroutinefunction(call):

        @functools.wraps(call)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = await call(*args, **kwargs)
            note(args, result, True)
            return result
    else:

        @functools.wraps(call)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                result = call(*args, **kwargs)
            except Exception:
                note(args, None, False)
                raise
            note(args, result, True)
            return result

    setattr(wrapper, _MARK, True)
    setattr(owner, name, wrapper)


def _resolved(args: tuple[Any, ...], user: Any, returned: bool) -> None:
    if returned:
        _note("auth", _ANONYMOUS if type(user).__name__ == "AnonymousUser" else _SIGNED_IN)


class _Messages(dict[type, str]):
    """Form -> what is said of it when it is valid. Bounded: some forms are made anew at each request."""

    def __missing__(self, form: type) -> str:
        message = f"Business validation: {form.__name__}"
        if len(self) < _MAX_FORMS:
            self[form] = message
        return message


_valid = _Messages()


@guard.call("authentication breadcrumb")
def _authenticated(args: tuple[Any, ...], result: Any, returned: bool) -> None:
    """REST framework has found the user by token, session, ..."""
    if not returned:
        _note("auth", "Authentication check failed", False)
    else:
        _resolved(args, getattr(args[1], "_user", None), True)


@guard.call("permission breadcrumb")
def _asked(args: tuple[Any, ...], granted: Any, returned: bool) -> None:
    if returned and len(args) > 1:
        _permission(str(args[1]), bool(granted))


@guard.call("permission breadcrumb")
def _permitted(args: tuple[Any, ...], result: Any, returned: bool) -> None:
    classes = ", ".join(getattr(one, "__name__", "?") for one in args[0].permission_classes)
    if classes:
        _permission(classes, returned)


def _permission(name: str, granted: bool) -> None:
    _note("auth", f"Permission check{'' if granted else ' failed'}: {name}", granted)


@guard.call("validation breadcrumb")
def _validated(args: tuple[Any, ...], result: Any, returned: bool) -> None:
    """A serializer was checked; where it is told to raise it has done so by now."""
    serializer = args[0]
    errors = serializer.__dict__.get("_errors")
    if errors:
        _invalid(serializer, errors)
    elif errors is not None:
        _note("validation", f"Business validation: {_name(serializer)}")


@guard.call("validation breadcrumb")
def _invalid(checked: Any, errors: Any) -> None:
    """*errors* by field; of a list of things, a list of such."""
    found: Iterable[Any] = errors
    if isinstance(errors, list):
        found = [name for one in errors if isinstance(one, dict) for name in one]
    names = [str(name) for name in dict.fromkeys(found)][:_MAX_FIELDS]
    _note("validation", f"Business validation failed: {_name(checked)}", False, {"fields": names})


def _name(checked: Any) -> str:
    return type(getattr(checked, "child", checked)).__name__


def _note(category: str, message: str, passed: bool = True, data: dict[str, Any] | None = None) -> None:
    """Once, when one check calls another; what failed always."""
    left = _left.get()
    if left is None:
        segment = current_segment()
        if segment is None:
            return
        left = segment.crumbs
        if left is None:
            left = segment.crumbs = []
    number = len(left)
    if number and ((number >= _ENOUGH and (passed or number >= _MAX)) or left[-1][2] == message):
        return
    left.append((time(), category, message, "info" if passed else "warning", data))
