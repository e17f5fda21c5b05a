"""Security events of Django and REST framework: from their own signals, and from what they answer.

A request that is neither 403 nor 404 pays for one comparison, and a user that is loaded for a note of two flags. What
`QuerySet.update` changes is not seen: it sends no signal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest
from django.utils.module_loading import import_string

from otel_sentry import guard, runtime
from otel_sentry.business import security
from otel_sentry.business.security import Who
from otel_sentry.trace.segment import current_segment
from otel_sentry_django import backends
from otel_sentry_django.address import client_ip
from otel_sentry_django.request import known_user

_UID = "otel_sentry_security"
_MARK = "_otel_sentry_security"
#: Names of credentials that say which account is meant; others may be secrets.
_ACCOUNTS = ("username", "email", "login")
#: Of a user's class: flag -> what an event of it is called.
_FLAGS = {"is_staff": "staff_changed", "is_superuser": "superuser_changed"}
_CHANGES = {"post_add": "added", "post_remove": "removed", "post_clear": "cleared"}
#: Users that one change of a group's members tells of.
_MOST = 100

_on = False
_signals: list[tuple[Any, Any]] = []


def install() -> None:
    """Listen, unless `OTEL_SENTRY_SECURITY` is off. Calling it again does nothing."""
    global _on
    current = runtime.get()
    if _on or (current is not None and not current.settings.security):
        return
    _on = True
    with guard.block("django security"):
        security.derive_key(settings.SECRET_KEY)
        from django.core.handlers import exception
        from django.middleware.csrf import CsrfViewMiddleware

        _around(exception, "response_for_exception", _suspicious)
        _around(CsrfViewMiddleware, "_reject", _csrf)
    if apps.is_installed("django.contrib.auth"):
        with guard.block("django security of users"):
            _listen()
            _watch_user_model()
        for path in settings.AUTHENTICATION_BACKENDS:
            with guard.block("django security of backends"):
                backends.watch(import_string(path), _backend_raised)


def uninstall() -> None:
    """Stop listening; the wrappers stay and only pass on."""
    global _on
    _on = False
    while _signals:
        signal, sender = _signals.pop()
        signal.disconnect(dispatch_uid=_UID, sender=sender)


def _around(owner: Any, name: str, before: Callable[..., None]) -> None:
    """Have *before* called with the arguments of *owner*'s function, first."""
    call = getattr(owner, name)
    if hasattr(call, _MARK):
        return

    @functools.wraps(call)
    def wrapper(*secrets: Any, **kwargs: Any) -> Any:  # by name, too: one of them is a password (`backends`)
        if _on:
            before(*secrets, **kwargs)
        return call(*secrets, **kwargs)

    setattr(wrapper, _MARK, True)
    setattr(owner, name, wrapper)


# Answers


def answered(request: HttpRequest, response: Any) -> None:
    """Whatever made the response: the application, Django, REST framework."""
    status = response.status_code
    if (status == 403 or status == 404) and _on:
        _refused(request, status)


@guard.call("security of a response")
def _refused(request: HttpRequest, status: int) -> None:
    who = _who(request)
    if status == 404:
        security.not_found(who)
        return
    if _MARK not in request.__dict__:  # it has not been told of by its proper name
        security.note("permission_denied", "denied", who)
    security.forbidden(who)


@guard.call("suspicious operation")
def _suspicious(request: HttpRequest, exc: BaseException) -> None:
    if isinstance(exc, SuspiciousOperation):
        security.suspicious(type(exc).__name__, _who(request))


@guard.call("CSRF failure")
def _csrf(middleware: Any, request: HttpRequest, reason: str) -> None:
    request.__dict__[_MARK] = True
    security.note("csrf_failure", "denied", _who(request))


@guard.call("token failure")
def token_failed(request: HttpRequest, exc: BaseException | None, response: Any) -> None:
    """REST framework has answered *request* for *exc*."""
    from rest_framework.exceptions import (  # type: ignore[import-untyped]
        AuthenticationFailed,
        NotAuthenticated,
    )

    if not _on or _MARK in request.__dict__ or not isinstance(exc, (AuthenticationFailed, NotAuthenticated)):
        return
    request.__dict__[_MARK] = True
    who = _who(request)
    security.note("token_failure", "invalid" if isinstance(exc, AuthenticationFailed) else "missing", who)
    if response.status_code == 401 and isinstance(exc, AuthenticationFailed):
        security.forbidden(who)


def watch_rest_framework(module: Any) -> None:
    """*module* is ``rest_framework.authentication``: its sessions check CSRF on their own."""
    call = module.SessionAuthentication.enforce_csrf
    if hasattr(call, _MARK):
        return

    @functools.wraps(call)
    def enforce_csrf(self: Any, request: Any) -> None:
        try:
            call(self, request)
        except Exception:
            if _on:
                _csrf(None, getattr(request, "_request", request), "")
            raise

    setattr(enforce_csrf, _MARK, True)
    module.SessionAuthentication.enforce_csrf = enforce_csrf


# Users


def _listen() -> None:
    from django.contrib.auth import get_user_model, password_validation, signals
    from django.db.models.signals import m2m_changed, post_save

    model = get_user_model()
    _connect(signals.user_logged_in, _logged_in)
    _connect(signals.user_logged_out, _logged_out)
    _connect(signals.user_login_failed, _login_failed)
    _connect(post_save, _saved, model)
    for name in ("groups", "user_permissions"):
        field = getattr(model, name, None)
        if field is not None:
            _connect(m2m_changed, functools.partial(_members_changed, f"{name}_changed"), field.through)
    # Django calls it once a new password has been saved, and not for an upgrade of the hash.
    _around(password_validation, "password_changed", _password_changed)


def _connect(signal: Any, receiver: Any, sender: Any = None) -> None:
    signal.connect(receiver, sender=sender, weak=False, dispatch_uid=_UID)
    _signals.append((signal, sender))


@guard.call("security of a login")
def _logged_in(sender: Any, user: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    _without_body()
    known = user.__dict__
    names = (known.get(getattr(user, "USERNAME_FIELD", "")), known.get("email"))
    accounts = tuple(security.account_of(name) for name in names if isinstance(name, str) and name)
    security.logged_in(Who(str(user.pk), _address(request), accounts))


@guard.call("security of a logout")
def _logged_out(sender: Any, user: Any = None, request: HttpRequest | None = None, **kwargs: Any) -> None:
    if user is not None:  # somebody was signed in
        security.note("logout", "ok", Who(str(user.pk), _address(request)), bad=False)


@guard.call("security of a failed login")
def _login_failed(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    _without_body()
    security.login_failed(Who(None, _address(request), _accounts(credentials)))


def _accounts(credentials: dict[str, Any]) -> tuple[str, ...]:
    """The account that was meant: who has no such name, as with tokens, is nobody."""
    from django.contrib.auth import get_user_model

    for name in (get_user_model().USERNAME_FIELD, *_ACCOUNTS):
        value = credentials.get(name)
        if isinstance(value, str) and value:
            return (security.account_of(value),)
    return ()


@guard.call("security of a new password")
def _password_changed(password: Any, user: Any = None, password_validators: Any = None) -> None:
    if user is None or user.__dict__.pop(_MARK, False):
        return
    request = _request()
    is_reset = request is not None and not (known_user(request) or {}).get("id")
    name = "password_reset" if is_reset else "password_changed"
    security.note(name, "ok", Who(str(user.pk), _address(request)), bad=False)


@guard.call("security of a user")
def _saved(sender: Any, instance: Any, created: bool, raw: bool = False, **kwargs: Any) -> None:
    if raw:  # a fixture
        return
    fields = kwargs.get("update_fields")
    known = instance._state.__dict__.get(_MARK)
    now = {flag: value for flag, value in _flags(instance).items() if fields is None or flag in fields}
    before = dict.fromkeys(now, False) if created else known
    instance._state.__dict__[_MARK] = {**(known or {}), **now}
    if created:
        _mark_new(instance)
        security.note("sign_up", "ok", Who(str(instance.pk), _address(_request())), bad=False)
    if before is None or not _differ(now, before):
        return
    for flag, value in now.items():
        if value != before.get(flag, value):
            security.note(
                _FLAGS[flag], "granted" if value else "revoked", Who(str(instance.pk), _address(_request())), bad=False
            )


def _mark_new(user: Any) -> None:
    """Its first password is no change."""
    if getattr(user, "_password", None) is not None:
        user.__dict__[_MARK] = True


def _differ(now: dict[str, bool], before: dict[str, bool]) -> bool:
    return any(value != before.get(flag, value) for flag, value in now.items())


def _flags(user: Any) -> dict[str, bool]:
    """What is loaded of them: never a query."""
    known = user.__dict__
    return {flag: bool(known[flag]) for flag in _FLAGS if flag in known}


@guard.call("security of a group")
def _members_changed(
    name: str, sender: Any, instance: Any, action: str, reverse: bool = False, pk_set: Any = None, **kwargs: Any
) -> None:
    outcome = _CHANGES.get(action)
    if outcome is None or (not pk_set and action != "post_clear"):
        return
    users = [instance.pk] if not reverse else sorted(pk_set or (), key=str)[:_MOST]
    address = _address(_request())
    for user in users or [None]:
        security.note(name, outcome, Who(str(user) if user is not None else None, address), bad=False)


def _watch_user_model() -> None:
    """A user that is loaded remembers what it may, so that a change is seen without a query."""
    from django.contrib.auth import get_user_model

    model = get_user_model()
    call = model.from_db.__func__
    if hasattr(call, _MARK):
        return

    @functools.wraps(call)
    def from_db(cls: Any, *args: Any, **kwargs: Any) -> Any:
        user = call(cls, *args, **kwargs)
        if _on:
            user._state.__dict__[_MARK] = _flags(user)
        return user

    setattr(from_db, _MARK, True)
    model.from_db = classmethod(from_db)


@guard.call("security of a backend")
def _backend_raised(exc: BaseException, secrets: tuple[Any, ...], credentials: dict[str, Any]) -> None:
    if not _on or isinstance(exc, PermissionDenied) or hasattr(exc, _MARK):  # or an inner one has told
        return
    setattr(exc, _MARK, True)
    _without_body()
    request = next((one for one in (*secrets[1:2], credentials.get("request")) if isinstance(one, HttpRequest)), None)
    kind = type(secrets[0])
    security.backend_raised(
        f"{kind.__module__}.{kind.__qualname__}", exc, Who(None, _address(request), _accounts(credentials))
    )


# Requests


def _who(request: HttpRequest) -> Who:
    return Who((known_user(request) or {}).get("id"), client_ip(request.META))


def _address(request: Any) -> str | None:
    request = request or _request()
    return client_ip(request.META) if isinstance(request, HttpRequest) else None


def _request() -> HttpRequest | None:
    """The request that runs here: `instrumentor` has left it on the segment."""
    segment = current_segment()
    found = getattr(segment.request, "args", ()) if segment is not None else ()
    return next((one for one in found if isinstance(one, HttpRequest)), None)


def _without_body() -> None:
    """Errors and alerts of this request do not show what was typed into the login form."""
    segment = current_segment()
    if segment is not None and isinstance(segment.request, functools.partial):
        inner = segment.request
        if inner.func is _describe_without_body:
            return
        segment.request = functools.partial(_describe_without_body, *inner.args, inner=inner)


def _describe_without_body(*args: Any, inner: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in inner().items() if key != "data"}
