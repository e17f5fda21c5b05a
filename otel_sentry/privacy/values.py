"""Secrets inside free text: found by their shape, or by the name in front of them.

Every pattern is linear: it starts at a literal or a look-behind, and its repeats are over disjoint classes.
Each has a cheap substring test in front of it, and short texts found clean are remembered.
What is cut off in the middle (an open quote, a key block without its end) counts as secret up to the end.
"""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re

from otel_sentry.privacy.keys import is_sensitive_key
from otel_sentry.privacy.sql import scrub_sql

FILTERED = "[Filtered]"
MAX_TEXT = 64 * 1024
"""Characters looked at and sent; text beyond is cut, at the last space before where one is near."""

_MAX_CLEAN = 8192
_MAX_CLEAN_LENGTH = 160  # most User-Agents are shorter
_clean: set[str] = set()

# What a text must hold for any detector to find something: substring tests, far cheaper.
_TOKEN_MARKS = (
    "eyJ", "_live_", "_test_", "gh", "xox", "xapp-", "whsec_", "sk-", "AKIA", "ASIA", "ABIA", "ACCA", "AIza",
    "glpat-", "ya29.", "SG.", "npm_", "pypi-", "dop_v1_", "hf_", "shp", "sq0", "key-", ":AA",
)  # fmt: skip
_SCHEME_MARKS = ("bearer", "basic", "token")
_DB_MARKS = ("key (", "row contains", "duplicate entry", "invalid input", "[parameters:")
_WORD_MARKS = (*_SCHEME_MARKS, *_DB_MARKS)
_SHORTEST = 12
"""Characters of the shortest secret that has none of the marks `= : @ $` and so on."""
_CARD_HINT = re.compile(r"\d{4}[ -]?\d{4}")
_HEX_TAIL = re.compile(r"-[0-9a-f]{32}")

_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----"
    r".*?(?:-----END [A-Z0-9 ]{0,50}-----|\Z)",
    re.DOTALL,
)
_USERINFO = re.compile(
    r"""://(?:[^\s/?#"'<>]*@|[^\s/?#@:"'<>\[]{0,256}:(?!\d{0,5}(?:[/?#]|$))[^\s@"'<>]{1,256}@)""", re.DOTALL
)
_DB_DETAIL = re.compile(
    r"(\bkey \([^\n]{1,256}?\)=\().*?(?:\)(?= already| is not| is still| conflicts|\.?\s*(?:\n|\Z))|\Z)"
    r"|(\brow contains \().*?(?:\)\.?(?=\s*(?:\n|\Z))|\Z)"
    r"|(\bDuplicate entry ').*?(?:'(?= for key)|\Z)"
    r"|(\binvalid input (?:syntax for|value for) [^:\n]{1,80}: \")[^\n]*?(?:\"(?=\s*(?:\n|\Z))|(?=\n)|\Z)"
    r"|(\[parameters: )[^\n]*(?=\n|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_DB_LINE = re.compile(r"^(LINE \d{1,6}: )([^\n]*)", re.MULTILINE)

_NAME = r"(?<![\w.%$\[\]-])([\w.%$\[\]-]+)"
_PAIR = re.compile(rf"""{_NAME}[\\"']{{0,4}}\]?\s{{0,8}}(?:=>|->|:=|={{1,3}}|:)\s{{0,8}}""")
_FLAG = re.compile(r"""(?<![\w-])(--[A-Za-z][\w-]{1,64})(?:\s{1,4}(?![-\s])|["'],\s{0,4}(?=["']))""")
_XML = re.compile(r"<([\w:.-]{1,64})(?:\s[^<>]{0,200})?>([^<]+)(?=</)")
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
_TOKENS = re.compile(
    r"eyJ[\w-]{14,}(?:[.:][\w.:=-]+)?|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|[sr]k_(?:live|test)_\w{8,}|whsec_[\w+/=]{16,}"
    r"|(?<![A-Za-z0-9])sk-(?=[\w-]{0,64}\d)[\w-]{20,}|A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}|AIza[\w-]{30,}"
    r"|glpat-[\w-]{16,}|ya29\.[\w-]{20,}|SG\.[\w-]{16,64}\.[\w-]{16,}|npm_[A-Za-z0-9]{30,}"
    r"|pypi-[\w-]{40,}|dop_v1_[a-f0-9]{40,}|hf_[A-Za-z0-9]{30,}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{30,}"
    r"|sq0[a-z]{3}-[\w-]{20,}|(?<!\w)key-[0-9a-f]{32}|(?<!\w)\d{8,10}:AA[\w-]{32,}"
    r"|(?<![\w-])[0-9a-z]{6}-[0-9a-f]{32}(?![0-9a-f])"
)
_HASH = re.compile(
    r"(?:pbkdf2_sha\d{1,3}|argon2\w{0,2}|scrypt|bcrypt\w{0,7}|sha1|md5)\$[\w$./+=,-]{16,}"
    r"|\$2[abxy]\$\d\d\$[./\w]{22,}"
)
_DIGITS = re.compile(r"\d(?<![\w.-]\d)(?:[ -]?\d){12,18}(?![\w-])")  # the digit first: a fast scan
_GROUPED = re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}\Z|\d{4}([ -])\d{6}\2\d{4,5}\Z")
_ISSUED = re.compile(
    r"(?:4\d{15}|5[1-5]\d{14}|2[2-7]\d{14}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35\d{14}|3[47]\d{13}|3[068]\d{12})\Z"
)
_EMAIL = re.compile(r"(?<![\w.+%-])([\w.+-]+)(?:@|%40)((?:[\w-]+\.)+[^\W\d_]{2,24})(?![\w-])")
_NO_PERSON = re.compile(r"(?:celery|git|worker\w*|gen\d+|npm|noreply|no-reply)\Z", re.IGNORECASE)


def cut(text: str) -> str:
    """At most `MAX_TEXT` characters, without the half word that a cut leaves."""
    if len(text) <= MAX_TEXT:
        return text
    space = text.rfind(" ", MAX_TEXT - 1024, MAX_TEXT)
    return text[: space if space > 0 else MAX_TEXT]


#: A replacement may end up beside what makes a pair with it ("password[Filtered]:..."): look again, but not for ever.
_MAX_PASSES = 4


def scrub_text(text: str, *, pii: bool = False) -> str:
    """The text with each secret as `[Filtered]`; e-mails too unless `pii`. Never raises; idempotent."""
    return _scrub(text, pii, True)


def scrub_code(text: str) -> str:
    """A line of source: only literals assigned to secret names, and what is a secret by its shape."""
    return _scrub(text, False, False)


def _scrub(text: str, pii: bool, pairs: bool) -> str:
    if text in _clean:
        return text
    original = text
    text = cut(text)
    for _ in range(_MAX_PASSES):
        if not suspicious(text):
            break
        before, text = text, _shapes(_named(text, pairs), pii)
        if text == before:
            break
    if text == original and not pii and pairs and len(text) <= _MAX_CLEAN_LENGTH:
        if len(_clean) >= _MAX_CLEAN:
            _clean.clear()
        _clean.add(text)
    return text


def suspicious(text: str) -> bool:
    """Whether any detector could match; a test holds that none matches where this says no."""
    if "=" in text or ":" in text or "@" in text or "$" in text:
        return True
    if "--" in text or "->" in text or "</" in text or "%40" in text:
        return True
    if len(text) < _SHORTEST:
        return False
    for mark in _TOKEN_MARKS:
        if mark in text:
            return True
    if " " in text or "\n" in text or "\t" in text:
        lower = text.lower()
        for mark in _WORD_MARKS:
            if mark in lower:
                return True
    return bool(_CARD_HINT.search(text) or _HEX_TAIL.search(text))


def _named(text: str, pairs: bool) -> str:
    """What is a secret because of the words around it."""
    if "-----BEGIN" in text:
        text = _PEM.sub(FILTERED, text)
    if "://" in text and "@" in text:
        text = _USERINFO.sub(f"://{FILTERED}@", text)
    lower = text.lower()
    if any(mark in lower for mark in _DB_MARKS):
        text = _DB_DETAIL.sub(_hide_detail, text)
    if "LINE " in text:
        text = _DB_LINE.sub(lambda m: m[1] + scrub_sql(m[2]), text)
    if "=" in text or ":" in text or "->" in text:
        text = _pairs(text, _PAIR, bare=pairs)
    if pairs and "--" in text:
        text = _pairs(text, _FLAG, bare=True)
    if "</" in text:
        text = _XML.sub(_hide_element, text)
    if any(mark in lower for mark in _SCHEME_MARKS):
        text = _SCHEME.sub(_hide_scheme, text)
    return text


def _shapes(text: str, pii: bool) -> str:
    """What is a secret because of its form."""
    if any(mark in text for mark in _TOKEN_MARKS) or _HEX_TAIL.search(text):
        text = _TOKENS.sub(FILTERED, text)
    if "$" in text:
        text = _HASH.sub(FILTERED, text)
    if len(text) >= 13:
        text = _DIGITS.sub(_hide_card, text)
    if not pii and ("@" in text or "%40" in text):
        text = _EMAIL.sub(_hide_email, text)
    return text


def _hide_detail(match: re.Match[str]) -> str:
    prefix = next(group for group in match.groups() if group is not None)
    closing = {"(": ")", "'": "'", '"': '"'}.get(prefix[-1], "]")
    return f"{prefix}{FILTERED}{closing}"


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


def _hide_card(match: re.Match[str]) -> str:
    number = match[0]
    plain = number.replace(" ", "").replace("-", "")
    # Long ids are everywhere: bare digits must have an issuer's prefix, others the grouping of a card.
    likely = _ISSUED.match(plain) if plain == number else _GROUPED.match(number)
    return FILTERED if likely and _luhn(plain) else number


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _hide_email(match: re.Match[str]) -> str:
    return match[0] if _NO_PERSON.match(match[1]) else FILTERED


def _pairs(text: str, pattern: re.Pattern[str], bare: bool) -> str:
    """Filter the value after each sensitive name. `bare=False`: only quoted values (source code)."""
    out: list[str] = []
    position = 0
    for match in pattern.finditer(text):
        if match.start() < position or not _is_secret_name(match[1]):
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
