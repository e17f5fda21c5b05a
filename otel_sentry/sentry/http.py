"""The sender's connections: one kept alive on the direct path, urllib3's pool for a proxy or an own CA.

Modules that open sockets are imported at the first connection, on the sender's thread: so gevent can patch
them first, and a program that has nothing to send never loads them.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import http.client
    import ssl

#: A connection idle for longer (seconds) may be dead without a sign (NAT, load balancers): take a new one.
_MAX_IDLE_S = 60.0
#: Sentry's answers are a few bytes; what is longer is not read, and the connection is dropped.
_MAX_ANSWER = 65536
_abandoned: list[object] = []


class Response(NamedTuple):
    """What the sender needs of an answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]


class Unreachable(Exception):
    """No answer; the message says why in words for the user, without key or proxy credentials."""


class Connection(Protocol):
    """Posts bodies to one URL."""

    def post(self, body: bytes, headers: Mapping[str, str], patience: float) -> Response:
        """Post *body* and wait for the answer, each step for *patience* seconds or the timeouts, at most.

        Raises Unreachable.
        """

    def abandon(self) -> None:
        """Let go of it in a forked child, without a lock or a word to the other side: it is the parent's."""


class Timeouts(NamedTuple):
    """Seconds for the connect and for each wait for the server after it."""

    connect: float = 2.0
    read: float = 5.0

    def within(self, patience: float) -> Timeouts:
        """The same, but no longer than *patience*."""
        return Timeouts(max(0.01, min(self.connect, patience)), max(0.01, min(self.read, patience)))


class Direct:
    """One keep-alive connection, by http.client.

    The request goes out in one piece: http.client's ``request`` sends head and body apart and takes more CPU.
    """

    def __init__(self, url: str, timeouts: Timeouts) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http URL")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        netloc = parts.netloc.rpartition("@")[2]
        head = f"POST {target} HTTP/1.1\r\nHost: {netloc}\r\nAccept-Encoding: identity\r\n"
        self._head = head.encode("ascii")
        self._timeouts = timeouts
        self._context: ssl.SSLContext | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0
        self._abandoned = False

    def post(self, body: bytes, headers: Mapping[str, str], patience: float) -> Response:
        """See `Connection.post`. A kept connection that turns out to be closed is replaced once, at once."""
        from http.client import HTTPException

        if time.monotonic() - self._used > _MAX_IDLE_S:
            self.close()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (self._head, lines.encode("latin-1"), len(body), body)
        timeouts = self._timeouts.within(patience)
        for fresh in (self._connection is None, True):
            try:
                return self._exchange(request, timeouts)
            except (OSError, HTTPException) as exc:
                self.close()
                if fresh or self._abandoned or isinstance(exc, TimeoutError):
                    raise Unreachable(explain(exc, self._host)) from exc
        raise AssertionError("unreachable")

    def _exchange(self, request: bytes, timeouts: Timeouts) -> Response:
        from http.client import HTTPResponse

        connection = self._connection
        if connection is None:
            connection = self._connection = self._open(timeouts)
        connection.sock.settimeout(timeouts.read)
        connection.send(request)
        response = HTTPResponse(connection.sock, method="POST")
        try:
            response.begin()
            response.read(_MAX_ANSWER)
            answer = Response(response.status, {name.lower(): value for name, value in response.getheaders()})
            if response.will_close or not response.isclosed():
                self.close()
        finally:
            response.close()
        self._used = time.monotonic()
        return answer

    def _open(self, timeouts: Timeouts) -> http.client.HTTPConnection:
        import http.client

        connection: http.client.HTTPConnection
        if self._secure:
            if self._context is None:
                self._context = _trust()
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeouts.connect, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeouts.connect)
        connection.connect()
        return connection

    def close(self) -> None:
        """Close the socket."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """See `Connection.abandon`.

        Another socket takes the place of the parent's under its number. Under gevent a plain close would take
        the parent's socket out of the epoll that both still share; with no close, the copy of the parent's
        greenlet that lives on here would read the parent's answer [ran].
        """
        from _socket import socket

        self._abandoned = True
        connection, self._connection = self._connection, None
        if connection is not None and connection.sock is not None and connection.sock.fileno() >= 0:
            dead = socket()
            os.dup2(dead.fileno(), connection.sock.fileno(), inheritable=False)
            dead.close()


def _trust() -> ssl.SSLContext:
    """The system's CAs and certifi's: slim container images have none of their own."""
    import ssl

    context = ssl.create_default_context()
    try:
        import certifi
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context


class Pooled:
    """urllib3's pool: for proxies and for a CA bundle of one's own."""

    def __init__(self, url: str, timeouts: Timeouts, proxy: str | None, ca_certs: str | None) -> None:
        import urllib3

        self._url = url
        self._timeouts = timeouts
        self._host = urlsplit(proxy or url).hostname or ""
        if proxy:
            credentials = _proxy_credentials(proxy)
            self._pool: urllib3.PoolManager = urllib3.ProxyManager(
                proxy, proxy_headers=credentials, num_pools=1, cert_reqs="CERT_REQUIRED", ca_certs=ca_certs
            )
        else:
            self._pool = urllib3.PoolManager(num_pools=1, cert_reqs="CERT_REQUIRED", ca_certs=ca_certs)

    def post(self, body: bytes, headers: Mapping[str, str], patience: float) -> Response:
        """See `Connection.post`."""
        import urllib3
        from urllib3.exceptions import HTTPError

        connect, read = self._timeouts.within(patience)
        try:
            answer = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers=dict(headers),
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=connect, read=read),
            )
        except (HTTPError, OSError) as exc:
            cause: BaseException = exc
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise Unreachable(explain(cause, self._host)) from exc
        return Response(answer.status, {name.lower(): value for name, value in answer.headers.items()})

    def abandon(self) -> None:
        """Keep it alive: closing takes locks that another thread may have held at the fork."""
        _abandoned.append(self._pool)


def _proxy_credentials(proxy: str) -> dict[str, str]:
    """``Proxy-Authorization`` for a proxy URL with user and password."""
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}


def connect(
    url: str,
    timeouts: Timeouts,
    *,
    http_proxy: str | None = None,
    https_proxy: str | None = None,
    ca_certs: str | None = None,
) -> Connection:
    """The connection for *url*: direct, unless a CA is set, or a proxy for its scheme and not in NO_PROXY.

    Raises ValueError for a URL that can't be posted to. Nothing is opened yet.
    """
    parts = urlsplit(url)
    proxy = https_proxy if parts.scheme == "https" else http_proxy
    if proxy:
        from urllib import request

        bypass: Callable[[str], bool] = getattr(request, "proxy_bypass_environment")  # noqa: B009 - not in typeshed
        if bypass(parts.netloc.rpartition("@")[2]):
            proxy = None
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy or (ca_certs and parts.scheme == "https"):
        return Pooled(url, timeouts, proxy, ca_certs)
    return Direct(url, timeouts)


def explain(exc: BaseException, host: str) -> str:
    """Why there was no answer, in one phrase."""
    import socket
    import ssl

    if isinstance(exc, ConnectionRefusedError):
        return f"connection refused by {host}"
    if isinstance(exc, socket.gaierror):
        return f"host {host} not found"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate of {host} not trusted: {exc.verify_message}"
    if isinstance(exc, TimeoutError) or "Timeout" in type(exc).__name__:
        return f"no answer from {host} in time"
    return f"connection to {host} failed: {type(exc).__name__}"


@contextmanager
def _by_context_keys() -> Iterator[None]:
    from opentelemetry import context

    token = context.attach(context.set_value("suppress_instrumentation", True))
    try:
        yield
    finally:
        context.detach(token)


def suppressed() -> AbstractContextManager[None]:
    """No spans about our own traffic."""
    try:
        from opentelemetry.instrumentation.utils import suppress_instrumentation
    except ImportError:
        return _by_context_keys()
    return suppress_instrumentation()
