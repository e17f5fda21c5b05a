"""Which attribute, header, parameter and variable NAMES hold a secret.

A name is cut into its words (`_ - .` and camelCase), and the words are judged, never substrings: that keeps
`monkey`, `author`, `primary_key` and `max_tokens` in clear. Decisions are cached in a bounded table.
"""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_CACHED_KEYS = 4096
MAX_CACHED_LENGTH = 200

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LOWER_WORD = re.compile(r"[a-z]+")

# Judged against "_word_word_", so that each alternative is made of whole words.
_ANYWHERE = "|".join(
    """
    passwords? passwd pwd pswd psw passphrase passcode passkey pass_(?:word|phrase|code|key)
    pgpassword mysql_pwd
    pass(?:word|wd)(?:hash|confirm|confirmation|again|repeat|new|old)
    secrets? token creds? credentials? cookies? csrf xsrf jwt bearer otp totp hotp hmac
    salt iban cvv cvc ssn
    authorization authenticator_code mnemonic samlresponse saml_(?:response|assertion)
    client_assertion code_verifier
    oauth_(?:verifier|signature|code|consumer_key)
    (?:access|refresh|auth|api|id|session|bearer|csrf|device|secret|reset|push)_tokens
    session_?(?:id|key) php_?sess_?id j_?session_?id sessid asp_net_session_?id
    (?:api|access|private|secret|encryption|encrypt|signing|sign|master|ssh|rsa|gpg|pgp|deploy|auth|consumer|app
        |application|account|storage|shared|license|service|activation|reset|webhook|hmac|aes|des|cipher|symmetric
        |session|wep|wpa|host|subscription|functions?|server|apim|unlock)_?keys?
    (?:access|auth|authorization|security|verification|recovery|backup|mfa|fa|sms|login|pin|one_time|confirmation|unlock)
        _?codes?
    pincode passport_(?:number|no) social_security(?:_number)? national_insurance(?:_number)?
    (?:credit|debit|payment|bank)_?card(?:_?(?:number|num|no))?
    (?:card|cc|pan|account|routing)_?(?:number|num|no)
    connection_?string conn_?str seed_phrase recovery_phrase security_answer secret_answer magic_link
    auth_header x_amzn_oidc_data x_ms_client_principal
    [a-z]+(?:password|passwd|passphrase|secret|token|cookie|sessionid|sessionkey|credentials?|apikeys?)
    [a-z]+(?:secretkey|privatekey|accesskey|authkey)
    """.replace("\n        ", "").split()
)
_AT_END = r"(?<!contrib_)auth|oauth|dsn|pin|pw|(?<!function_)(?<!method_)(?<!type_)signature|sig"
_WHOLE = (
    r"(?:(?:db|user|smtp|email|mail|ftp|redis|mysql|pg|postgres|admin|root|proxy|login|auth|my|vault|sudo|ssh|wifi|service)_)?pass"
    r"|(?:user_|aiohttp_|laravel_|django_)?session|(?:connect_)?sid|userpass|dbpass|pan|oauth_nonce"
)
_SENSITIVE = re.compile(rf"_(?:{_ANYWHERE})_|_(?:{_AT_END})_$|^_(?:{_WHOLE})_$")

# A last word that says something ABOUT the secret, and a first word that makes a count or a flag of it.
_ABOUT = frozenset(
    """
    count counts length len size type types kind expires expiry expiration expire at in ttl age name names
    changed enabled required valid invalid limit limits used usage max min strength policy algorithm alg
    reset exempt failed failure failures consent domain path secure samesite httponly banner accepted format
    arn region version hasher hashers validator validators rotated rotation status state missing budget
    index provider backend backends scheme method issuer audience scope scopes lifetime duration days
    seconds ms class form view url_name template lookup
    """.split()
)
_FLAG = frozenset("has is max min num total require requires needs supports allow allows should".split())
_PAGINATION = re.compile(r"_(?:page|pagination|continuation|cancellation)_token_$")

_cache: dict[str, bool] = {}
_users: list[str] = []
_allowed: frozenset[str] = frozenset()


def use(names: Iterable[str], allowed: Iterable[str]) -> None:
    """Put the user's names in force (`rules.use`)."""
    global _allowed
    _users[:] = [f"_{'_'.join(words)}_" for name in names if (words := _words(name))]
    _allowed = frozenset(name.lower() for name in allowed)
    _cache.clear()


def is_sensitive_key(key: str) -> bool:
    """Whether the name `key` says that its value is a secret. Never raises; linear in its length."""
    known = _cache.get(key)
    if known is not None:
        return known
    verdict = _judge(key)
    if len(key) <= MAX_CACHED_LENGTH:
        if len(_cache) >= MAX_CACHED_KEYS:
            _cache.clear()
        _cache[key] = verdict
    return verdict


def _judge(key: str) -> bool:
    if not key.isascii():
        # Case-folding traps: "ſecret", "credentıal" and full-width letters are read as what they look like.
        key = unicodedata.normalize("NFKC", key).replace("ı", "i").replace("ſ", "s")
    words = _words(key)
    if not words:
        return False
    if _allowed and (key.lower() in _allowed or key.lower().rpartition(".")[2] in _allowed):
        return False
    if _users and any(name in f"_{'_'.join(words)}_" for name in _users):
        return True
    if words[-1] in _ABOUT:
        return False
    last_segment = _WORD.findall(key.rpartition(".")[2])
    if last_segment and last_segment[0].lower() in _FLAG:
        return False
    return _matches(words) or _matches(_LOWER_WORD.findall(key.lower()))


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key)]


def _matches(words: list[str]) -> bool:
    joined = f"_{'_'.join(words)}_"
    return bool(_SENSITIVE.search(joined)) and not _PAGINATION.search(joined)
