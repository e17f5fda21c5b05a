"""The project's pages, and the samples and commands in them."""

from __future__ import annotations

import pathlib
import re
import textwrap
from typing import NamedTuple

import otel_sentry

ROOT = pathlib.Path(otel_sentry.__file__).resolve().parents[1]
#: `<!-- not run: why -->` before a sample says that a test can't run it as it stands.
_SAMPLE = re.compile(r"(<!-- not run:[^>]*-->\n+)?^( *)```python\n(.*?)^\2```", re.DOTALL | re.MULTILINE)


class Sample(NamedTuple):
    """A Python sample of a page. *runs*: as it stands."""

    code: str
    runs: bool


def pages() -> list[pathlib.Path]:
    """Every page that users and contributors read."""
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "collector-config").glob("*.md")),
    ]


def text(page: str) -> str:
    """The page at *page*, from the project's folder on."""
    return (ROOT / page).read_text()


def samples(text: str) -> list[Sample]:
    """The Python samples in *text*."""
    return [Sample(textwrap.dedent(code), not mark) for mark, _, code in _SAMPLE.findall(text)]


def sample(page: str, has: str) -> str:
    """The one Python sample of *page* that has *has* in it."""
    (found,) = [one.code for one in samples(text(page)) if has in one.code]
    return found
