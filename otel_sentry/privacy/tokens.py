"""What is a secret by its form: tokens by their prefix, hashes, card and account numbers, e-mails.

Every pattern is linear: it starts at a literal or a look-behind, and its repeats are over disjoint or bounded classes.
"""

from __future__ import annotations

import re

FILTERED = "[Filtered]"

#: What a text must hold (a substring test is far cheaper) -> the pattern that is tried then.
TOKENS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (mark, re.compile(pattern))
    for pattern, *marks in (
        (r"eyJ[\w-]{14,}(?:[.:][\w.:=-]+)?", "eyJ"),
        (r"gh[pousr]_[A-Za-z0-9]{20,}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        (r"github_pat_\w{20,}", "github_pat_"),
        (r"xox[a-z]-[\w-]{10,}", "xox"),
        (r"xapp-[\w-]{10,}", "xapp-"),
        (r"[sr]k_(?:live|test)_\w{8,}", "k_live_", "k_test_"),
        (r"whsec_[\w+/=]{16,}", "whsec_"),
        (r"(?<![A-Za-z0-9])sk-(?=[\w-]{0,64}\d)[\w-]{20,}", "sk-"),
        (r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}", "AKIA", "ASIA", "ABIA", "ACCA"),
        (r"AIza[\w-]{30,}", "AIza"),
        (r"gl(?:pat|dt|rt|ptt|ft|imt|agent|soat|ffct|cbt|oas|rtr)-[\w-]{16,}", "gl"),
        (r"ya29\.[\w-]{20,}", "ya29."),
        (r"SG\.[\w-]{16,64}\.[\w-]{16,}", "SG."),
        (r"npm_[A-Za-z0-9]{30,}", "npm_"),
        (r"pypi-[\w-]{40,}", "pypi-"),
        (r"do[opr]_v1_[a-f0-9]{40,}", "_v1_"),
        (r"hf_[A-Za-z0-9]{30,}", "hf_"),
        (r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{30,}", "shp"),
        (r"sq0[a-z]{3}-[\w-]{20,}", "sq0"),
        (r"(?<!\w)key-[0-9a-f]{32}", "key-"),
        (r"(?<!\w)\d{8,10}:AA[\w-]{32,}", ":AA"),
        (r"(?<!\w)[0-9a-f]{32}-us\d{1,2}(?!\w)", "-us"),
        (r"(?<=hooks\.slack\.com/services/)[\w/]{20,}", "hooks.slack.com"),
        (r"(?<=/webhooks/)\d{15,20}/[\w-]{40,}", "/webhooks/"),
        (r"GOCSPX-[\w-]{20,}", "GOCSPX-"),
        (r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,}", "Q~"),
        (r"(?<!\w)EAA[A-Za-z0-9]{50,}", "EAA"),
        (r"(?<!\w)dapi[0-9a-f]{32}", "dapi"),
        (r"(?<!\w)hv[sbr]\.[\w-]{20,}", "hvs.", "hvb.", "hvr."),
        (r"(?<!\w)[A-Za-z0-9]{14}\.atlasv1\.[\w-]{40,}", ".atlasv1."),
        (r"NRAK-[A-Z0-9]{20,}", "NRAK-"),
        (r"sntry[a-z]_[\w=+/-]{20,}", "sntry"),
        (r"lin_api_\w{20,}", "lin_api_"),
        (r"ntn_\w{20,}", "ntn_"),
        (r"PMAK-[0-9a-f]{20,}-[0-9a-f]{20,}", "PMAK-"),
        (r"dckr_[a-z]{2,4}_[\w-]{20,}", "dckr_"),
        (r"figd_[\w-]{20,}", "figd_"),
        (r"(?<!\w)LTAI[A-Za-z0-9]{16,}", "LTAI"),
        (r"ATATT3[\w=-]{20,}", "ATATT3"),
        (r"(?<![\w.])sl\.[\w-]{100,}", "sl."),
        (r"AGE-SECRET-KEY-1[A-Z0-9]{40,}", "AGE-SECRET"),
        (r"HRKU-[\w-]{30,}", "HRKU-"),
        (r"FLWSECK-[0-9a-z]{20,}", "FLWSECK-"),
        (r"dt0c\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{40,}", "dt0c"),
        (r"\b[a-z]{2,8}_pat_[A-Za-z0-9]{16,}", "_pat_"),
        (r"(?<![\w-])fo\d_[\w-]{30,}", "fo1_"),
        (r"s-s4t2(?:ud|af)-[0-9a-f]{40,}", "s-s4t2"),
        (r"(?<!\w)(?:live|test)_[0-9a-f]{35}(?!\w)", "live_", "test_"),
        (r"(?<![A-Za-z0-9])(?!pk_)[a-z]{2,12}_(?:live|test|prod|sandbox)_(?=[\w-]{0,64}\d)[\w-]{16,}",
         "_live_", "_test_", "_prod_", "_sandbox_"),
    )
    for mark in marks
)  # fmt: skip
#: The same for what has no literal in it: a long run, mostly after a separator.
HINT = re.compile(r"[_.-][A-Za-z0-9]{30}|\.[\w-]{6}\.[\w-]{27}|-[0-9a-f]{32}|SK[0-9a-f]{32}")

_MARKS = tuple(mark for mark, _ in TOKENS)
_CARD = re.compile(r"\d{4}[ -]?\d{4}")
_SHORTEST = 15
"""Characters of the shortest token."""
_SHORTEST_LIMIT = 40
"""Where somebody cuts texts, at least so much is left of them."""
_CUT_MARKS = (
    "eyJ", "gh", "xox", "k_live_", "AKIA", "ASIA", "AIza", "glpat-", "ya29.", "whsec_", "GOCSPX-", "npm_", "pypi-",
    "github_pat_",
)  # fmt: skip

#: What has no literal in it.
_RUNS = re.compile(
    r"(?<![\w-])[0-9a-z]{6}-[0-9a-f]{32}(?![0-9a-f])|(?<!\w)SK[0-9a-f]{32}(?!\w)"
    r"|(?<!\w)pat[A-Za-z0-9]{14}\.[0-9a-f]{64}|(?<![\w.-])[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}"
)
#: `prefix_` and a long random run: somebody's token, whoever issued it.
_PREFIXED = re.compile(r"(?<![\w.-])([a-z]{2,12})(?:[_.-][a-z0-9]{1,8}){0,2}([_.-])([A-Za-z0-9]{30,})[\w-]*")
_DIGESTS = frozenset(("sha", "md", "hash", "digest", "commit", "rev", "ref", "git", "etag", "checksum", "img", "image"))
#: The beginning of a token at the very end: somebody (an attribute limit, a column) cut it before us.
_CUT = re.compile(
    r"(?:eyJ|gh[pousr]_|github_pat_|xox[a-z]-|[sr]k_live_|AKIA|ASIA|AIza|glpat-|ya29\.|whsec_|GOCSPX-|npm_|pypi-AgE)"
    r"[\w.+/=-]{4,}(?:…|\.\.\.)?\Z"
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
_IBAN = re.compile(r"(?<![\w-])[A-Z]{2}\d{2}(?:(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?)(?![\w-])")
_EMAIL = re.compile(r"(?<![\w.+%-])([\w.+-]+)(?:@|%40)((?:[\w-]+\.)+[^\W\d_]{2,24})(?![\w-])")
_NO_PERSON = re.compile(r"(?:celery|git|worker\w*|gen\d+|npm|noreply|no-reply)\Z", re.IGNORECASE)


def holds(text: str, marks: tuple[str, ...]) -> bool:
    """Whether one of *marks* is in *text*."""
    for mark in marks:  # noqa: SIM110 (a generator takes three times as long)
        if mark in text:
            return True
    return False


def has_long_word(text: str) -> bool:
    """Whether anything between blanks is as long as the shortest token."""
    return len(text) >= _SHORTEST and len(max(text.split(), key=len, default="")) >= _SHORTEST


def may_match(text: str) -> bool:
    """Whether `shapes` could change *text*, apart from hashes and e-mails: a quick look."""
    if has_long_word(text) and (holds(text, _MARKS) or HINT.search(text) is not None):
        return True
    if len(text) >= _SHORTEST_LIMIT and holds(text[-_SHORTEST_LIMIT:], _CUT_MARKS):
        return True
    return _CARD.search(text) is not None


def shapes(text: str, pii: bool) -> str:
    """Filter what is a secret because of its form; e-mails unless *pii*."""
    hinted = False
    if has_long_word(text):
        hinted = HINT.search(text) is not None
        for mark, pattern in TOKENS:
            if mark in text:
                text = pattern.sub(FILTERED, text)
    if len(text) >= _SHORTEST_LIMIT and holds(text[-_SHORTEST_LIMIT:], _CUT_MARKS):
        text = _CUT.sub(FILTERED, text)
    if "$" in text:
        text = _HASH.sub(FILTERED, text)
    if hinted:
        text = _PREFIXED.sub(_hide_random, _RUNS.sub(FILTERED, text))
    if hinted or _CARD.search(text):
        text = _IBAN.sub(_hide_account, _DIGITS.sub(_hide_card, text))
    if not pii and ("@" in text or "%40" in text):
        text = _EMAIL.sub(_hide_email, text)
    return text


def _hide_random(match: re.Match[str]) -> str:
    run = match[3]
    digits = sum(map(str.isdigit, run))
    if run.islower():
        # Digests have prefixes too: only after `_`, longer than an MD5, not named as one, and no file's name.
        named = match[1] in _DIGESTS or match.string[match.end() : match.end() + 1] == "."
        random = match[2] == "_" and len(run) >= 36 and digits * 8 > len(run) and not named
    else:
        random = not run.isupper() and digits >= 2 and digits * 2 < len(run)
    return FILTERED if random else match[0]


def _hide_card(match: re.Match[str]) -> str:
    number = match[0]
    plain = number.replace(" ", "").replace("-", "")
    # Long ids are everywhere: bare digits must have an issuer's prefix, others the grouping of a card.
    likely = _ISSUED.match(plain) if plain == number else _GROUPED.match(number)
    return FILTERED if likely and luhn(plain) else number


def luhn(digits: str) -> bool:
    """Whether the last digit is the right check digit (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _hide_account(match: re.Match[str]) -> str:
    plain = match[0].replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return match[0]
    number = "".join(str(int(character, 36)) for character in plain[4:] + plain[:4])
    return FILTERED if int(number) % 97 == 1 else match[0]  # ISO 13616


def _hide_email(match: re.Match[str]) -> str:
    return match[0] if _NO_PERSON.match(match[1]) else FILTERED
