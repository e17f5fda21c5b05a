"""A parser of Sentry envelopes, for the receiver and the tests.

Written from the protocol's text (develop docs, "Envelopes"); it shares nothing with our encoder, so
that a fault in the one does not hide in the other.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Any

#: What Sentry's intake accepts at most in one request, uncompressed.
MAX_ENVELOPE_BYTES = 100 * 1024 * 1024
_NOT_JSON = ("attachment", "profile_chunk", "replay_recording", "replay_video", "minidump")


class MalformedEnvelope(ValueError):
    """The body is no envelope; the message says where it breaks off."""


@dataclass(frozen=True)
class Item:
    """One item of an envelope: its header and its raw payload."""

    headers: dict[str, Any]
    payload: bytes

    @property
    def type(self) -> str:
        return str(self.headers["type"])

    @property
    def json(self) -> Any:
        """The payload, decoded; None for the binary kinds."""
        return None if self.type in _NOT_JSON else json.loads(self.payload)


def parse_envelope(body: bytes) -> tuple[dict[str, Any], tuple[Item, ...]]:
    """Take an uncompressed envelope apart. Raises MalformedEnvelope."""
    line, rest = _line(body)
    header = _object(line, "envelope header")
    items: list[Item] = []
    while rest:
        line, rest = _line(rest)
        if not line.strip():
            continue
        where = f"header of item {len(items)}"
        headers = _object(line, where)
        if not isinstance(headers.get("type"), str):
            raise MalformedEnvelope(f"{where}: no type")
        payload, rest = _payload(headers.get("length"), rest, where)
        item = Item(headers, payload)
        try:
            item.json  # noqa: B018  a payload that is not JSON makes the envelope malformed
        except ValueError as exc:
            raise MalformedEnvelope(f"payload of item {len(items)} ({item.type}): {exc}") from exc
        items.append(item)
    return header, tuple(items)


def _line(data: bytes) -> tuple[bytes, bytes]:
    line, _, rest = data.partition(b"\n")
    return line, rest


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as exc:
        raise MalformedEnvelope(f"{where}: {exc}") from exc
    if not isinstance(value, dict):
        raise MalformedEnvelope(f"{where}: not an object")
    return value


def _payload(length: object, rest: bytes, where: str) -> tuple[bytes, bytes]:
    if length is None:
        return _line(rest)
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise MalformedEnvelope(f"{where}: length {length!r}")
    if length > len(rest):
        raise MalformedEnvelope(f"{where}: length {length}, but {len(rest)} bytes follow")
    payload, rest = rest[:length], rest[length:]
    if rest and not rest.startswith(b"\n"):
        raise MalformedEnvelope(f"{where}: no newline after {length} bytes")
    return payload, rest[1:]


def decompress(body: bytes, encoding: str) -> bytes:
    """Undo a request's Content-Encoding. Raises MalformedEnvelope."""
    try:
        if encoding == "gzip":
            plain = gzip.decompress(body)
        elif encoding == "deflate":
            plain = zlib.decompress(body)
        elif encoding in ("", "identity"):
            plain = body
        else:
            raise MalformedEnvelope(f"content encoding {encoding}")
    except (OSError, EOFError, zlib.error) as exc:
        raise MalformedEnvelope(f"{encoding}: {exc}") from exc
    if len(plain) > MAX_ENVELOPE_BYTES:
        raise MalformedEnvelope(f"{len(plain)} bytes")
    return plain
