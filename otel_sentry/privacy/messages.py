"""Texts of a known make: what databases say of a row's values, and command lines with a password in them.

Linear: each pattern starts at a literal, and what follows is bounded, or ends at the first of its kind.
"""

from __future__ import annotations

import re

from otel_sentry.privacy.sql import scrub_sql
from otel_sentry.privacy.tokens import FILTERED, holds

#: In lower case; one of them is in every text that the patterns here match.
MARKS = (
    "key (", "row contains", "duplicate entry", "invalid input", "[parameters:", "incorrect ", "out of range",
    "token \"", "time zone \"", "sshpass", "redis-cli", "curl ", "mysql", "passw", "passphrase", "passcode", "token",
    "secret", "pin ", "otp ", "key is", "key '", "key \"", "key `", "byte sequence",
)  # fmt: skip

_DETAIL = re.compile(
    r"(\bkey \([^\n]{1,256}?\)=\().*?(?:\)(?= already| is not| is still| conflicts|\.?\s*(?:\n|\Z))|\Z)"
    r"|(\brow contains \().*?(?:\)\.?(?=\s*(?:\n|\Z))|\Z)"
    r"|(\bDuplicate entry ').*?(?:'(?= for key)|\Z)"
    r"|(\bincorrect [\w ]{1,30} value: ').*?(?:'(?= for column)|\Z)"
    r"|(\binvalid input (?:syntax for|value for) [^:\n]{1,80}: \"|\bvalue out of range: \"|\bbyte sequence near \")"
    r"[^\n]*?(?:\"(?=\s*(?:\n|\Z))|(?=\n)|\Z)"
    r"|(\b(?:value|token|time zone) \")[^\"\n]*(?:\"(?= is out of range| is invalid| not recognized)|\Z)"
    r"|(\[parameters: )[^\n]*(?=\n|\Z)",
    re.DOTALL | re.IGNORECASE,
)
# Also in the repr of an exception, where the line's end is an escape.
_LINE = re.compile(r"((?:^|\\n)LINE \d{1,6}: )((?:[^\n\\]|\\(?!\\{0,3}n))*)", re.MULTILINE)
_COMMAND = re.compile(
    r"""(\bsshpass\s{1,4}-p\s{0,4}|\bmysql\w{0,8}\b[^\n]{0,100}?\s-p(?=\S)|\bredis-cli\b[^\n]{0,100}?\s-a\s{1,4}"""
    r"""|\bcurl\b[^\n]{0,200}?\s(?:-u|--user)\s{1,4}["']?[^\s:"']{1,64}:)([^\s"']+)"""
)
# "the token is x", "wrong password 'x'": a value has a digit, a message has none.
_SAID = re.compile(
    r"""\b((?:password|passwd|passphrase|passcode|token|secret|pin|otp|(?:api|access|secret|private)[ _-]?key)\s{1,4}"""
    r"""(?:(?:is|was)\s{1,4}["'`]?|["'`]))(?=[^\s"'`]{0,64}\d)([^\s"'`]{6,})""",
    re.IGNORECASE,
)
_ORACLE = re.compile(r"(\bjdbc:oracle:\w{1,8}:[^\s/@]{1,64}/)[^\s@]{1,256}(?=@)")


def messages(text: str, lower: str) -> str:
    """Filter the values in *text*; *lower* is the same in lower case."""
    if holds(lower, MARKS):
        text = _DETAIL.sub(_hide_detail, text)
        text = _SAID.sub(rf"\1{FILTERED}", _COMMAND.sub(rf"\1{FILTERED}", text))
    if "LINE " in text:
        text = _LINE.sub(lambda match: match[1] + scrub_sql(match[2]), text)
    if "jdbc:oracle:" in text:
        text = _ORACLE.sub(rf"\1{FILTERED}", text)
    return text


def _hide_detail(match: re.Match[str]) -> str:
    prefix = next(group for group in match.groups() if group is not None)
    closing = {"(": ")", "'": "'", '"': '"'}.get(prefix[-1], "]")
    return f"{prefix}{FILTERED}{closing}"
