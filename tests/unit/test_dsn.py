"""What a DSN means, and that its key is shown nowhere."""

from __future__ import annotations

import pytest

from otel_sentry._version import __version__
from otel_sentry.sentry.dsn import Dsn

KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "url", "org"),
    [
        (
            f"https://{KEY}@o123.ingest.us.sentry.io/456",
            "https://o123.ingest.us.sentry.io/api/456/envelope/",
            "123",
        ),
        (f"http://{KEY}@localhost:8000/1", "http://localhost:8000/api/1/envelope/", None),
        (f"https://{KEY}@sentry.example/a/b/7", "https://sentry.example/a/b/api/7/envelope/", None),
        (f"http://{KEY}@[::1]:9000/2", "http://[::1]:9000/api/2/envelope/", None),
        (f"http://{KEY}:oldsecret@[2001:db8::7]/2/", "http://[2001:db8::7]/api/2/envelope/", None),
        (f"  https://{KEY}@o1.example/3\n", "https://o1.example/api/3/envelope/", "1"),
    ],
)
def test_where_envelopes_go(text: str, url: str, org: str | None) -> None:
    """The envelope URL keeps scheme, host, port and path; the organisation is the host's first label."""
    dsn = Dsn.parse(text)
    assert (dsn.envelope_url, dsn.org_id, dsn.public_key) == (url, org, KEY)


def test_auth_header() -> None:
    """The header has the key, the protocol's version and our name."""
    header = Dsn.parse(f"https://{KEY}@example.com/1").auth_header
    assert header == f"Sentry sentry_key={KEY}, sentry_version=7, sentry_client=otel-sentry/{__version__}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "scheme"),
        (KEY, "scheme"),
        (f"ftp://{KEY}@example.com/1", "scheme"),
        ("https://example.com/1", "no public key"),
        (f"https://{KEY}@/1", "host"),
        (f"https://{KEY}@exa mple.com/1", "host"),
        (f"https://{KEY}@example.com", "project id"),
        (f"https://{KEY}@example.com/my-project", "project id"),
        (f"https://{KEY}@example.com/٣", "project id"),
        (f"https://{KEY}@example.com/a b/1", "path"),
        (f"https://{KEY}@example.com/1?verify=0", "query"),
        (f"https://{KEY}@example.com:99999/1", "not a URL"),
        (f"https://{KEY}@example.com:port/1", "not a URL"),
        (f"https://{KEY}@[::1/1", "not a URL"),
        (f"https://{KEY}ü@example.com/1", "public key"),
        (f"https://{KEY}@ex℀mple.com/1", "not a URL"),
    ],
)
def test_what_is_no_dsn(text: str, says: str) -> None:
    """Each fault has a message of its own, and none shows the key."""
    with pytest.raises(ValueError, match=says) as caught:
        Dsn.parse(text)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_repr_hides_the_key() -> None:
    """A DSN that ends up in a log line does not show its key."""
    assert KEY not in repr(Dsn.parse(f"https://{KEY}@example.com/1"))
