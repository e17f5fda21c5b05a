"""What can be read from an uploaded file."""

from __future__ import annotations

import struct
from typing import IO

_PNG = b"\x89PNG\r\n\x1a\n"


class UnsupportedMedia(ValueError):
    """The upload is not a file that the studio can show."""


def check_video(upload: IO[bytes]) -> None:
    """Take MP4 only.

    Raises:
        UnsupportedMedia: it is none.

    """
    head = upload.read(8)
    upload.seek(0)
    if head[4:] != b"ftyp":
        raise UnsupportedMedia("the upload is not an MP4")


def dimensions(upload: IO[bytes]) -> tuple[int, int]:
    """Width and height of a PNG, in pixels.

    Raises:
        UnsupportedMedia: it is none.

    """
    head = upload.read(24)
    upload.seek(0)
    if len(head) < 24 or not head.startswith(_PNG):
        raise UnsupportedMedia("the upload is not a PNG")
    width, height = struct.unpack(">II", head[16:24])
    return width, height
