"""What a span says of a statement: its text without literals, and a summary (`SELECT posts_post`)."""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from otel_sentry.privacy import scrub_sql

#: Longer statements (`execute_values` with thousands of rows) are cut before they are looked at.
MAX_STATEMENT = 8_192
#: Of longer ones few are remembered.
_MAX_KEPT = 4_096
#: Semantic conventions: a summary is cut at 255 characters.
_MAX_SUMMARY = 255

_NAME = r'(?:"[^"]{1,128}"|[A-Za-z_][\w$]{0,127})'
_PARTS = re.compile(
    rf"""
      \b(?:EXTRACT|TRIM|SUBSTRING|OVERLAY)\s{{0,4}}\([^()]{{0,200}}?\bFROM\b
    | \bDISTINCT\s+FROM\b
    | \b(?:FOR|DO)\s+(?:NO\s+KEY\s+)?UPDATE\b
    | \b(?:FROM|JOIN|INTO|TABLE|UPDATE|TRUNCATE|COPY|CALL)\s+(?:(?:ONLY|TABLE|IF\s+NOT\s+EXISTS|IF\s+EXISTS)\s+)*
      (?P<target>{_NAME}(?:\.{_NAME}){{0,3}})(?P<call>(?<!\s)\()?
    | \b(?P<verb>SELECT|INSERT|DELETE)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TAKES_COLUMNS = ("INTO", "TABL", "COPY", "CALL")
_NO_TARGET = frozenset(("SELECT", "LATERAL", "SET", "STDIN", "STDOUT", "UNNEST", "AS"))


class Statement(NamedTuple):
    """A statement as a span shows it. *operation* is its first word, as contrib names spans."""

    text: str
    summary: str
    operation: str


def read(statement: str) -> Statement:
    """What to say of *statement*. Remembered for statements of ordinary length, and the last few long ones."""
    if len(statement) <= _MAX_KEPT:
        return _remembered(statement)
    return _last(statement[:MAX_STATEMENT])


def _read(statement: str) -> Statement:
    text = scrub_sql(statement)
    words = text.split(None, 1)
    operation = words[0] if words else ""
    return Statement(text, _summary(text, operation), operation)


_remembered = functools.lru_cache(maxsize=1024)(_read)
#: One statement is asked for three times, and reading a long one takes milliseconds.
_last = functools.lru_cache(maxsize=8)(_read)


def _summary(text: str, operation: str) -> str:
    """The statement's first word and what it is about; the parts of an `INSERT ... SELECT` or a `WITH` follow."""
    words = [operation.upper().rstrip(";")]
    for part in _PARTS.finditer(text, 0, _MAX_KEPT):
        if part["verb"]:
            if part.start() > 0:  # the first one is there already
                words.append(part["verb"].upper())
        elif part["target"]:
            target = part["target"].replace('"', "")
            is_call = part["call"] is not None and part[0][:4].upper() not in _TAKES_COLUMNS
            if not is_call and target.upper() not in _NO_TARGET:
                words.append(target)
    summary = " ".join(words)
    return summary if len(summary) <= _MAX_SUMMARY else summary[: _MAX_SUMMARY + 1].rsplit(" ", 1)[0]


def text_of(statement: Any, context: Any) -> str:
    """*statement* as text, whatever the drivers take: text, bytes, `sql.SQL` and its like, template strings.

    *context* is a cursor or a connection, for the quoting of identifiers.
    """
    if isinstance(statement, str):
        return statement
    if isinstance(statement, bytes | bytearray | memoryview):
        return bytes(statement[:MAX_STATEMENT]).decode("utf-8", "replace")
    if hasattr(statement, "as_string"):
        return str(statement.as_string(context))
    strings = getattr(statement, "strings", None)  # a template: what is between its literal parts are values
    return "?".join(strings) if isinstance(strings, tuple) else ""
