"""E-mail, by SMTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from otel_sentry.business.sinks import Alert, Refused, TryAgain
from otel_sentry.convention.naming import cut

if TYPE_CHECKING:
    import smtplib
    import ssl

    from otel_sentry.settings import Settings

_TIMEOUT_S = 5.0
_MAX_SUBJECT = 200


def send(alert: Alert, settings: Settings) -> None:
    """Mail *alert* to `OTEL_SENTRY_ALERT_EMAIL_TO` through `OTEL_SENTRY_SMTP_URL`."""
    if not settings.smtp_url or not settings.alert_email_to:
        raise Refused("OTEL_SENTRY_SMTP_URL and OTEL_SENTRY_ALERT_EMAIL_TO are not both set")
    parts = _address(settings.smtp_url)
    with _plain_words(parts.hostname or ""), _connected(parts, settings) as server:
        server.send_message(letter(alert, settings), to_addrs=list(settings.alert_email_to))


def _address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text may quote the URL
        usable = False
    if not usable:
        raise Refused("OTEL_SENTRY_SMTP_URL is not smtp://user:password@host:port (or smtps://)")
    return parts


def letter(alert: Alert, settings: Settings) -> EmailMessage:
    """The message; no program answers it (RFC 3834)."""
    made = EmailMessage()
    made["Subject"] = _encodable(cut(alert.title, _MAX_SUBJECT))
    made["From"] = settings.alert_email_from or settings.alert_email_to[0]
    made["To"] = ", ".join(settings.alert_email_to)
    made["Date"] = format_datetime(_moment(alert))
    made["Message-ID"] = make_msgid(idstring=alert.id, domain="otel-sentry.invalid")
    made["Auto-Submitted"] = "auto-generated"
    lines = [alert.message, "", *(f"{name}: {value}" for name, value in {**alert.facts(), **alert.links()}.items())]
    if alert.context:
        lines += ["", json.dumps(dict(alert.context), indent=2, ensure_ascii=False, default=lambda value: "")]
    made.set_content(_encodable("\n".join(lines)))
    return made


def _encodable(text: str) -> str:
    """Without lone surrogates, which no encoding has."""
    return text.encode("utf-8", "replace").decode()


def _moment(alert: Alert) -> Any:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(alert.at, timezone.utc)


@contextmanager
def _connected(parts: SplitResult, settings: Settings) -> Iterator[smtplib.SMTP]:
    import smtplib

    host, name = parts.hostname or "", settings.server_name or "localhost"
    server: smtplib.SMTP
    if parts.scheme == "smtps":
        server = smtplib.SMTP_SSL(
            host, parts.port or 465, local_hostname=name, timeout=_TIMEOUT_S, context=_trust(settings)
        )
    else:
        server = smtplib.SMTP(host, parts.port or 587, local_hostname=name, timeout=_TIMEOUT_S)
    with server:
        if parts.scheme == "smtp" and settings.smtp_starttls:
            server.starttls(context=_trust(settings))
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        yield server


def _trust(settings: Settings) -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context(cafile=settings.ca_certs)


@contextmanager
def _plain_words(host: str) -> Iterator[None]:
    """smtplib's exceptions as ours: theirs hold addresses, and what the server said."""
    import smtplib
    import ssl

    try:
        yield
    except smtplib.SMTPRecipientsRefused as exc:
        raise _by_code(host, max((code for code, _ in exc.recipients.values()), default=550)) from None
    except smtplib.SMTPResponseException as exc:
        raise _by_code(host, exc.smtp_code) from None
    except smtplib.SMTPNotSupportedError:
        raise Refused(f"{host} offers no STARTTLS or no log-in (OTEL_SENTRY_SMTP_STARTTLS=0 does without)") from None
    except ssl.SSLCertVerificationError:
        raise Refused(f"the certificate of {host} is not trusted") from None
    except OSError as exc:  # smtplib's other ones among them
        raise TryAgain(f"no way to {host}: {type(exc).__name__}") from None


def _by_code(host: str, code: int) -> Exception:
    """4xx: later perhaps; 5xx: never (RFC 5321, 4.2.1)."""
    reason = f"{host} answered {code}"
    return TryAgain(reason) if code < 500 else Refused(reason)
