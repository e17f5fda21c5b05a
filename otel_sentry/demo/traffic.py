"""A visitor of the studio: what he does, and what of it has to arrive at Sentry."""

from __future__ import annotations

import http.cookiejar
import json
import struct
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_TIMEOUT_S = 30.0


class Visitor:
    """A browser of few words: keeps cookies, sends forms, uploads and JSON, and never uses a proxy."""

    def __init__(self, url: str) -> None:
        self.url = url
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)

    def get(self, path: str) -> int:
        """The status of a page."""
        return self._open(urllib.request.Request(self.url + path))

    def post(self, path: str, **fields: str) -> int:
        """Send a form."""
        return self._open(urllib.request.Request(self.url + path, urllib.parse.urlencode(fields).encode()))

    def post_json(self, path: str, **fields: Any) -> int:
        """Send JSON."""
        headers = {"Content-Type": "application/json"}
        return self._open(urllib.request.Request(self.url + path, json.dumps(fields).encode(), headers))

    def upload(self, path: str, fields: Mapping[str, str], name: str, content: bytes) -> int:
        """Send a form with a file in it."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="upload"; filename="{name}"\r\n'
            f"Content-Type: image/png\r\n\r\n".encode()
        )
        body = b"".join([*parts, content, f"\r\n--{boundary}--\r\n".encode()])
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._open(urllib.request.Request(self.url + path, body, headers))

    def _open(self, request: urllib.request.Request) -> int:
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            exc.close()
            return exc.code


@dataclass(frozen=True)
class Step:
    """One thing that the visitor does.

    *roots* are the transactions it must make, all of one trace; *issues* the exception types, all of them;
    *spans* are pieces of text, each to be found in a span of the trace; *absent* the opposite.
    """

    title: str
    act: Callable[[Visitor], int]
    status: int
    roots: tuple[str, ...]
    issues: tuple[str, ...] = ()
    spans: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    at_least_ms: float = 0.0


def png(width: int, height: int) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" * (width + 1)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


_CREATE, _SHOW, _RENDER = "POST /posts/", "GET /posts/<int:post_id>/", "posts.tasks.render_post"

#: In this order, against an empty database: the first post has the id 1.
STEPS = (
    Step(
        "A visitor signs up",
        lambda visitor: visitor.post("/accounts/signup/", username="ada", password="a-long-password"),
        201,
        ("POST /accounts/signup/",),
        spans=("accounts_member",),
    ),
    Step(
        "She posts a picture; the worker renders it",
        lambda visitor: visitor.upload("/posts/", {"title": "Poster", "kind": "image"}, "a.png", png(640, 480)),
        201,
        (_CREATE, _RENDER),
        spans=('INSERT INTO "posts_post"', 'INSERT INTO "posts_rendition"', 'UPDATE "posts_post"'),
    ),
    Step(
        "The post's page: not in the cache",
        lambda visitor: visitor.get("/posts/1/"),
        200,
        (_SHOW,),
        spans=("posts_post",),
    ),
    Step(
        "The same page: in the cache",
        lambda visitor: visitor.get("/posts/1/"),
        200,
        (_SHOW,),
        absent=("posts_post",),
    ),
    Step(
        "A report with a slow query",
        lambda visitor: visitor.get("/reports/slow/"),
        200,
        ("GET /reports/slow/",),
        spans=("pg_sleep",),
        at_least_ms=600,
    ),
    Step(
        "She likes the post",
        lambda visitor: visitor.post("/posts/1/like/"),
        201,
        ("POST /posts/<int:post_id>/like/",),
    ),
    Step(
        "She likes it again: the view catches the IntegrityError, so there is no issue",
        lambda visitor: visitor.post("/posts/1/like/"),
        200,
        ("POST /posts/<int:post_id>/like/",),
        spans=('INSERT INTO "posts_like"',),
    ),
    Step(
        "A broken upload, which the view reports and survives",
        lambda visitor: visitor.upload("/posts/", {"title": "Broken", "kind": "image"}, "b.png", b"no picture"),
        201,
        (_CREATE, _RENDER),
        issues=("UnsupportedMedia",),
    ),
    Step(
        "A view with a bug",
        lambda visitor: visitor.get("/posts/1/broken/"),
        500,
        ("GET /posts/<int:post_id>/broken/",),
        issues=("ZeroDivisionError",),
    ),
    Step(
        "A task with a bug",
        lambda visitor: visitor.post_json("/posts/1/export/"),
        202,
        ("POST /posts/<int:post_id>/export/", "posts.tasks.export_post"),
        issues=("ExportFailed",),
    ),
)
