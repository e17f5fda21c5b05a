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

from otel_sentry.business.thresholds import PATTERNS

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

    *roots* are the transactions it must make, all of one trace; *issues* the exception types, all of them; *alerts*
    the types of the business alerts; *spans* are pieces of text, each to be found in a span of the trace; *absent* the
    opposite. What *act* does several *times* makes as many traces.
    """

    title: str
    act: Callable[[Visitor], int]
    status: int
    roots: tuple[str, ...]
    issues: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    times: int = 1
    spans: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    at_least_ms: float = 0.0


def mp4() -> bytes:
    """A video of no length."""
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4s", 8, b"mdat")


def png(width: int, height: int) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" * (width + 1)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _guess(visitor: Visitor) -> int:
    """Somebody else tries passwords on her account."""
    stranger = Visitor(visitor.url)
    statuses = {stranger.post("/accounts/login/", username="ada", password=f"guess-{n}") for n in range(_GUESSES)}
    return statuses.pop() if len(statuses) == 1 else 0


#: The last one is the one that tells of it.
_GUESSES = PATTERNS["brute_force_account"][0]
_CREATE, _SHOW, _RENDER = "POST /posts/", "GET /posts/<int:post_id>/", "posts.tasks.render_post"

#: In this order, against an empty database: the first post has the id 1.
STEPS = (
    Step(
        "A visitor signs up",
        lambda visitor: visitor.post("/accounts/signup/", username="ada", password="a-long-password"),
        201,
        ("POST /accounts/signup/",),
        spans=("accounts_member", "registration", "signed_up"),
    ),
    Step(
        "Somebody tries passwords on her account: an alert",
        _guess,
        403,
        ("POST /accounts/login/",),
        alerts=("brute_force_account",),
        times=_GUESSES,
        spans=("accounts_member",),
    ),
    Step(
        "She posts a video, her first post; the worker renders it",
        lambda visitor: visitor.upload("/posts/", {"title": "Teaser", "kind": "video"}, "a.mp4", mp4()),
        201,
        (_CREATE, _RENDER),
        spans=(
            'INSERT INTO "posts_post"',
            'INSERT INTO "posts_rendition"',
            'UPDATE "posts_post"',
            "post_creation",
            "first_post",
            "published",
        ),
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
    Step(
        "She wants to upgrade, but the card is refused: an alert",
        lambda visitor: visitor.post("/accounts/upgrade/", card_token="tok_chargeDeclined"),
        402,
        ("POST /accounts/upgrade/",),
        alerts=("payment_failed",),
        spans=("accounts_member",),
    ),
)


@dataclass(frozen=True)
class Business:
    """What all steps together must make of journey, funnel, feature and operations: {by what: how many}."""

    journey: str
    steps: tuple[str, ...]
    outcome: str
    funnel: str
    users: Mapping[str, int]
    feature: str
    uses: Mapping[str, int]
    operations: Mapping[tuple[str, str], int]
    logins: Mapping[str, int]
    incidents: Mapping[str, int]


BUSINESS = Business(
    journey="user_onboarding",
    steps=("signed_up", "first_post", "published"),
    outcome="completed",
    funnel="user_onboarding",
    users={"signed_up": 1, "first_post": 1},
    feature="post_creator",
    uses={"video_created": 1, "image_created": 1},
    operations={("registration", "ok"): 1, ("post_creation", "ok"): 2, ("payment", "error"): 1},
    logins={"ok": 1, "failed": _GUESSES},
    incidents={"brute_force_account": 1},
)  # fmt: skip
