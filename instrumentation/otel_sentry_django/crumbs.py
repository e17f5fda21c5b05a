"""Breadcrumbs that Django's and REST framework's own checks leave: who it was, may he do it, is it valid.

Names of permissions, forms and failing fields only, never values. A request pays about a microsecond for each.
Imports neither Django nor REST framework: their modules are wrapped when they have been imported.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import wrapt

from otel_sentry import ambient, guard
from otel_sentry.trace.segment import current_segment

_MARK = "_otel_sentry_crumb"
#: Names of failing fields that are shown.
_MAX_FIELDS = 20
#: With so many crumbs left, checks that passed leave no more: an admin page asks for hundreds of permissions.
_ENOUGH = 20

_installed = False


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


def _auth(module: ModuleType) -> None:
    for name in ("get_user", "aget_user"):
        _after(module, name, _resolved)


def _models(module: Any) -> None:
    for owner in (module.PermissionsMixin, module.AnonymousUser):
        for name in ("has_perm", "ahas_perm"):
            _after(owner, name, _asked)


def _forms(module: Any) -> None:
    _after(module.BaseForm, "full_clean", _cleaned)


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
        return make(test_func if inspect.iscoroutinefunction(test_func) else _test(test_func), *args, **kwargs)

    setattr(user_passes_test, _MARK, True)
    module.user_passes_test = user_passes_test


def _test(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    name = getattr(function, "__qualname__", type(function).__name__).partition(".<locals>")[0]

    @functools.wraps(function, updated=())
    def test(user: Any) -> Any:
        passed = function(user)
        _note("auth", "Permission check", name, bool(passed))
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


@guard.call("authentication breadcrumb")
def _resolved(args: tuple[Any, ...], user: Any, returned: bool) -> None:
    """The session's user was looked up."""
    if returned:
        _who(user)


def _who(user: Any) -> None:
    signed_in = getattr(user, "is_authenticated", False) is True
    _note("auth", "Authentication check", "signed in" if signed_in else "anonymous", True)


@guard.call("authentication breadcrumb")
def _authenticated(args: tuple[Any, ...], result: Any, returned: bool) -> None:
    """REST framework has found the user by token, session, ..."""
    if returned:
        _who(getattr(args[1], "_user", None))
    else:
        _note("auth", "Authentication check", "", False)


@guard.call("permission breadcrumb")
def _asked(args: tuple[Any, ...], granted: Any, returned: bool) -> None:
    if returned and len(args) > 1:
        _note("auth", "Permission check", str(args[1]), bool(granted))


@guard.call("permission breadcrumb")
def _permitted(args: tuple[Any, ...], result: Any, returned: bool) -> None:
    classes = ", ".join(getattr(one, "__name__", "?") for one in args[0].permission_classes)
    if classes:
        _note("auth", "Permission check", classes, returned)


@guard.call("validation breadcrumb")
def _cleaned(args: tuple[Any, ...], result: Any, returned: bool) -> None:
    form = args[0]
    if form.is_bound and returned:
        _valid(form, form._errors)


@guard.call("validation breadcrumb")
def _validated(args: tuple[Any, ...], result: Any, returned: bool) -> None:
    serializer = args[0]
    if hasattr(serializer, "_errors"):
        _valid(serializer, serializer._errors)


def _valid(checked: Any, errors: Any) -> None:
    name = type(getattr(checked, "child", checked)).__name__
    _note("validation", "Business validation", name, not errors, {"fields": _fields(errors)} if errors else None)


def _fields(errors: Any) -> list[str]:
    """The names of the fields with errors; of a list of things, those of all."""
    found: Iterable[Any] = errors
    if isinstance(errors, list):
        found = [name for one in errors if isinstance(one, dict) for name in one]
    return [str(name) for name in dict.fromkeys(found)][:_MAX_FIELDS]


def _note(category: str, what: str, which: str, passed: bool, data: dict[str, Any] | None = None) -> None:
    """Once, when one check calls another; what failed always."""
    segment = current_segment()
    if segment is None:
        return
    left = segment.crumbs
    if left and passed and len(left) >= _ENOUGH:
        return
    message = f"{what}{'' if passed else ' failed'}{': ' if which else ''}{which}"
    if not left or left[-1].message != message:
        ambient.crumb(category, message, "info" if passed else "warning", data)
