"""Secrets inside free text: found by their shape, or by the name in front of them.

Every pattern is linear: it starts at a literal or a look-behind, and its repeats are over disjoint classes.
Each has a cheap substring test in front of it, and short texts found clean are remembered.
What is cut off in the middle (an open quote, a key block without its end) counts as secret up to the end.
"""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re
from collections.abc import Callable

from otel_sentry import guard
from otel_sentry.privacy import messages, tokens
from otel_sentry.privacy.keys import is_sensitive_key
from otel_sentry.privacy.tokens import FILTERED

MAX_TEXT = 64 * 1024
"""Characters looked at and sent; text beyond is cut, at the last space before where one is near."""

_MAX_CLEAN = 8192
_MAX_CLEAN_LENGTH = 160  # most User-Agents are shorter
_clean: set[str] = set()
_users: Callable[[str], str] | None = None  # the user's own patterns

_SCHEME_MARKS = ("bearer", "basic", "token")
_WORD_MARKS = (*_SCHEME_MARKS, *messages.MARKS)
_SHORTEST = 12
"""Characters of the shortest secret that has none of the marks `= : @ $` and so on."""

_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----"
    r".*?(?:-----END [A-Z0-9 ]{0,50}-----|\Z)",
    re.DOTALL,
)
_USERINFO = re.compile(
    r"""://(?:[^\s/?#"'<>]*@|[^\s/?#@:"'<>\[]{0,256}:(?!\d{0,5}(?:[/?#]|$))[^\s@"'<>]{1,256}@)""", re.DOTALL
)
_NAME = r"(?<![\w.%$\[\]-])([\w.%$\[\]-]+)"
_PAIR = re.compile(rf"""{_NAME}[\\"']{{0,4}}\]?\s{{0,8}}(?:=>|->|:=|={{1,3}}|:)\s{{0,8}}""")
_FLAG = re.compile(r"""(?<![\w-])(--[A-Za-z][\w-]{1,64})(?:\s{1,4}(?![-\s])|["'],\s{0,4}(?=["']))""")
_XML = re.compile(r"<([\w:.-]{1,64})(?:\s[^<>]{0,200})?>([^<]+)(?=</)")
_ENCODED_PAIR = re.compile(r"(?<![\w.-])([\w.-]{1,64}%3D)((?:[^\s&\"'<>%]|%(?!26|3[BbDd]))+)", re.IGNORECASE)
# `?key=`, `&appid=`: the name says little, but together with such a value it is a key of some service.
_URL_KEY = re.compile(r"(?:key|appid)\Z", re.IGNORECASE)
_URL_KEY_VALUE = re.compile(r"(?=[\w-]{0,64}[A-Za-z])(?=[\w-]{0,64}\d)[\w-]{16,}(?![./\w])")
_QUOTED = re.compile(
    r"""(?:[bBuUrRfF]{0,2})(?:"([^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z)"""
    r"""|'([^'\\]*(?:\\.[^'\\]*)*)(?:'|\\?\Z))""",
    re.DOTALL,
)
_ESCAPED = re.compile(r"""\\{1,4}(["'])(.*?)(?:\\{1,4}\1|\Z)""", re.DOTALL)
_BARE = re.compile(
    r"""\[Filtered\](?=$|[\s,;&"'<>)\]}])"""
    r"""|(?:(?:bearer|basic|token|digest|negotiate|apikey)\s{1,4})?"""
    r"""(?:[^\s,;&"'<>]|["'<>](?=\w)|[,;](?!\s|$|["']?[\w.-]{1,64}["']?\s?[=:]))+""",
    re.IGNORECASE,
)
_TO_LINE_END = re.compile(r"""[^\r\n"']*""")
_WORDY = re.compile(r"cookie|authorization|phrase|mnemonic", re.IGNORECASE)
_BRACKET = re.compile(r"[\[\](){}]")
_NOTHING = frozenset(("", "none", "null", "true", "false", "''", '""', "nil", "undefined", "%s", "?", FILTERED.lower()))
# "token: invalid" is a message, not a secret.
_STATES = frozenset(
    """
    ok not expired invalid missing required empty set unset valid changed incorrect wrong disabled enabled
    failed found too must is was unknown deprecated malformed unavailable unauthorized
    """.split()
)

_SCHEME = re.compile(r"\b(bearer|basic|token)(\s{1,4})([A-Za-z0-9._~+/=-]{6,})", re.IGNORECASE)
_SCHEME_WORDS = frozenset(
    """
    token tokens authentication authenticated auth realm scheme schemes authorization header headers error
    errors format required credentials credential missing invalid expired
    """.split()
)


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """At most *limit* characters, without the half word that a cut leaves: half a secret is not recognised."""
    if len(text) <= limit:
        return text
    space = text.rfind(" ", max(limit - 1024, limit // 2), limit)
    return text[: space if space > 0 else limit]


#: A replacement may end up beside what makes a pair with it ("password[Filtered]:..."): look again, but not for ever.
_MAX_PASSES = 4


def scrub_text(text: str, *, pii: bool = False) -> str:
    """The text with each secret as `[Filtered]`; e-mails too unless `pii`. Idempotent.

    Never raises: what can't be looked at is `[Filtered]` as a whole.
    """
    if type(text) is str and text in _clean:
        return text
    with guard.block("the scrubber"):
        return _scrub(text, pii, True)
    return FILTERED


def scrub_code(text: str) -> str:
    """A line of source: only literals assigned to secret names, and what is a secret by its shape."""
    with guard.block("the scrubber"):
        return _scrub(text, False, False)
    return FILTERED


def use(users: Callable[[str], str] | None) -> None:
    """Let *users* filter each text too, after the rules here (`rules.use`)."""
    global _users
    _users = users
    _clean.clear()


def _scrub(text: str, pii: bool, pairs: bool) -> str:
    if text in _clean:
        return text
    original = text
    text = cut(text)
    for _ in range(_MAX_PASSES):
        if not suspicious(text):
            break
        before, text = text, tokens.shapes(_named(text, pairs), pii)
        if text == before:
            break
    if _users is not None:
        text = _users(text)
    if text == original and not pii and pairs and len(text) <= _MAX_CLEAN_LENGTH:
        if len(_clean) >= _MAX_CLEAN:
            _clean.clear()
        _clean.add(text)
    return text


def suspicious(text: str) -> bool:
    """Whether any detector could match; a test holds that none matches where this says no."""
    if "=" in text or ":" in text or "@" in text or "$" in text:
        return True
    if "--" in text or "->" in text or "</" in text or "%40" in text or "%3" in text:
        return True
    if len(text) < _SHORTEST:
        return False
    if (" " in text or "\n" in text or "\t" in text) and tokens.holds(text.lower(), _WORD_MARKS):
        return True
    return tokens.may_match(text)


def _named(text: str, pairs: bool) -> str:
    """What is a secret because of the words around it."""
    if "-----BEGIN" in text:
        text = _PEM.sub(FILTERED, text)
    if "://" in text and "@" in text:
        text = _USERINFO.sub(f"://{FILTERED}@", text)
    lower = text.lower()
    text = messages.messages(text, lower)
    if "=" in text or ":" in text or "->" in text:
        text = _pairs(text, _PAIR, bare=pairs)
    if "%3D" in text or "%3d" in text:
        text = _ENCODED_PAIR.sub(_hide_encoded, text)
    if pairs and "--" in text:
        text = _pairs(text, _FLAG, bare=True)
    if "</" in text:
        text = _XML.sub(_hide_element, text)
    if tokens.holds(lower, _SCHEME_MARKS):
        text = _SCHEME.sub(_hide_scheme, text)
    return text


def _hide_element(match: re.Match[str]) -> str:
    if not is_sensitive_key(match[1]):
        return match[0]
    return match[0][: match.start(2) - match.start()] + FILTERED


def _hide_scheme(match: re.Match[str]) -> str:
    kind, value = match[1].lower(), match[3]
    if value.lower().rstrip(".=") in _SCHEME_WORDS:
        return match[0]
    if kind == "token":
        secret = len(value) >= 20 and any(c.isdigit() for c in value)
    else:
        encoded = (len(value) % 4 == 0 or len(value) >= 16) and not value[1:].islower()
        secret = kind == "bearer" or value.endswith("=") or encoded
    return f"{match[1]}{match[2]}{FILTERED}" if secret else match[0]


def _pairs(text: str, pattern: re.Pattern[str], bare: bool) -> str:
    """Filter the value after each sensitive name. `bare=False`: only quoted values (source code)."""
    out: list[str] = []
    position = 0
    for match in pattern.finditer(text):
        if match.start() < position or not (_is_secret_name(match[1]) or _is_url_key(text, match)):
            continue
        end, replacement = _value_at(text, match.end(), match[1], bare)
        out.append(text[position : match.end()])
        out.append(replacement)
        position = end
    if not position:
        return text
    out.append(text[position:])
    return "".join(out)


def _is_secret_name(name: str) -> bool:
    if "%" in name:
        name = name.replace("%5B", "_").replace("%5D", "_").replace("%5b", "_").replace("%5d", "_")
    return is_sensitive_key(name)


def _is_url_key(text: str, match: re.Match[str]) -> bool:
    if text[max(match.start() - 1, 0)] not in "?&" or not _URL_KEY.match(match[1]):
        return False
    return is_url_key(match[1], text, match.end())


def is_url_key(name: str, text: str, start: int = 0) -> bool:
    """Whether a parameter of an address is some service's key: `?key=` and what looks like one."""
    return bool(_URL_KEY.match(name) and _URL_KEY_VALUE.match(text, start))


def _hide_encoded(match: re.Match[str]) -> str:
    return match[1] + FILTERED if is_sensitive_key(match[1][:-3]) else match[0]


def _value_at(text: str, start: int, name: str, bare: bool) -> tuple[int, str]:
    """Where the value that begins at `start` ends, and what stands there instead."""
    quoted = _QUOTED.match(text, start)
    if quoted:
        content = quoted[1] if quoted[1] is not None else quoted[2]
        if content.lower() in _NOTHING:
            return quoted.end(), quoted[0]
        quote = '"' if quoted[1] is not None else "'"
        return quoted.end(), f"{quote}{FILTERED}{quote}"
    escaped = _ESCAPED.match(text, start)
    if escaped:
        if escaped[2].lower() in _NOTHING:
            return escaped.end(), escaped[0]
        return escaped.end(), f"\\{escaped[1]}{FILTERED}\\{escaped[1]}"
    if not bare:
        return start, ""
    if _WORDY.search(name):
        line = _TO_LINE_END.match(text, start)
        end = line.end() if line else start
        return end, FILTERED if text[start:end].strip() else text[start:end]
    if text[start : start + 1] in ("[", "{", "(") and not text.startswith(FILTERED, start):
        end, rest = _bare_value(text, _container_end(text, start))
        return end, rest if rest.startswith(FILTERED) else FILTERED + rest
    return _bare_value(text, start)


def _bare_value(text: str, start: int) -> tuple[int, str]:
    match = _BARE.match(text, start)
    if match is None:
        return start, ""
    value = match[0]
    if value == FILTERED:
        return match.end(), FILTERED
    kept = len(value) - len(value.rstrip(")]}"))
    word = value[: len(value) - kept].lower()
    if word in _NOTHING or (word in _STATES and text[start - 2 : start] == ": "):
        return match.end(), value
    return match.end(), FILTERED + value[len(value) - kept :]


def _container_end(text: str, start: int) -> int:
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        depth += 1 if bracket[0] in "[{(" else -1
        if depth <= 0:
            return bracket.end()
    return len(text)
