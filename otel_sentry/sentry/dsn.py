"""A Sentry DSN: where to send, and with which key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from otel_sentry._version import __version__

_KEY = re.compile(r"[A-Za-z0-9_.-]+\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\Z")
_PATH = re.compile(r"[A-Za-z0-9_.~!$&'()*+,;=:@%/-]*\Z")
_ORG = re.compile(r"o(\d+)\.")
_EXPECTED = "expected https://KEY@HOST/PROJECT"


@dataclass(frozen=True)
class Dsn:
    """A parsed DSN. Its ``repr`` and every message about it leave the key out."""

    scheme: str
    public_key: str = field(repr=False)
    host: str
    port: int | None
    path: str
    project_id: str
    org_id: str | None

    @classmethod
    def parse(cls, text: str) -> Dsn:
        """Read ``{scheme}://{key}[:{secret}]@{host}[:{port}][/{path}]/{project}``; the old secret is ignored.

        Raises ValueError with a message for the user, in which the key is never shown.
        """
        try:
            parts = urlsplit(text.strip())
            host, port, key = parts.hostname, parts.port, parts.username
        except ValueError:  # its own message may quote the text, and the key with it
            raise ValueError(f"the DSN is not a URL; {_EXPECTED}") from None
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"the DSN's scheme must be http or https; {_EXPECTED}")
        if not key or not _KEY.match(key):
            what = "has no public key" if not key else "has characters in its public key that no key has"
            raise ValueError(f"the DSN {what}; {_EXPECTED}")
        if not host or not _HOST.match(host):
            raise ValueError(f"the DSN has no valid host; {_EXPECTED}")
        if parts.query or parts.fragment:
            raise ValueError(f"the DSN must not have a query or fragment; {_EXPECTED}")
        path, _, project = parts.path.rstrip("/").rpartition("/")
        if not (project.isascii() and project.isdigit()):
            raise ValueError(f"the DSN must end in a numeric project id; {_EXPECTED}")
        if not _PATH.match(path):
            raise ValueError(f"the DSN's path has characters that a URL can't have; {_EXPECTED}")
        org = _ORG.match(host)
        return cls(parts.scheme, key, host, port, path, project, org.group(1) if org else None)

    @property
    def netloc(self) -> str:
        """Host as it stands in a URL, with the port where one was given."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def envelope_url(self) -> str:
        """Where envelopes are posted."""
        return f"{self.scheme}://{self.netloc}{self.path}/api/{self.project_id}/envelope/"

    @property
    def otlp_traces_url(self) -> str:
        """Sentry's own OTLP intake for traces (sentry-docs, "OTLP")."""
        return f"{self.scheme}://{self.netloc}{self.path}/api/{self.project_id}/integration/otlp/v1/traces/"

    @property
    def auth_header(self) -> str:
        """Value of ``X-Sentry-Auth``."""
        client = f"otel-sentry/{__version__}"
        return f"Sentry sentry_key={self.public_key}, sentry_version=7, sentry_client={client}"
