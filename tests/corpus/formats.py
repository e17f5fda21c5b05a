"""What secrets look like, by the public descriptions of those who issue them; random, never a real one.

A format in `HELD_OUT_ONLY` stands in the held-out part alone: no rule was written with it in sight.
"""

# ruff: noqa: E501 (tables; random on purpose; word lists read better as text)

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable

HEX = "0123456789abcdef"
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits
MIXED = string.ascii_letters + string.digits
URL64 = MIXED + "_-"
BASE64 = MIXED + "+/"

Make = Callable[[random.Random], str]


def some(rng: random.Random, alphabet: str, size: int) -> str:
    """`size` random characters, a digit among them."""
    text = [rng.choice(alphabet) for _ in range(size)]
    text[rng.randrange(size)] = rng.choice("23456789")
    return "".join(text)


def jwt(rng: random.Random) -> str:
    """header.claims.signature."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": some(rng, LOWER, 8), "iat": rng.randrange(10**9, 2 * 10**9)}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, some(rng, URL64, 43)])


def pem(kind: str) -> Make:
    """A private key's block."""

    def make(rng: random.Random) -> str:
        lines = "\n".join(some(rng, BASE64, 64) for _ in range(4))
        return f"-----BEGIN {kind}-----\n{lines}\n{some(rng, BASE64, 22)}==\n-----END {kind}-----"

    return make


def card(rng: random.Random) -> str:
    """A card number with a right check digit, as it is written in one of three ways."""
    prefix, size = rng.choice(
        [("4", 16), ("51", 16), ("55", 16), ("6011", 16), ("37", 15), ("34", 15), ("3530", 16), ("2221", 16)]
    )
    body = prefix + "".join(rng.choice(string.digits) for _ in range(size - len(prefix) - 1))
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (1 if place % 2 else 2)
        total += value - 9 if value > 9 else value
    number = body + str(-total % 10)
    style = rng.choice(["", " ", "-"])
    groups = (
        [number[0:4], number[4:8], number[8:12], number[12:]]
        if size == 16
        else [number[0:4], number[4:10], number[10:]]
    )
    return style.join(groups)


def iban(rng: random.Random) -> str:
    """A German, British or French account with right check digits, with or without its spaces."""
    country, letters, digits = rng.choice([("DE", 0, 18), ("GB", 4, 14), ("FR", 0, 23), ("NL", 4, 10), ("ES", 0, 20)])
    body = "".join(rng.choice(string.ascii_uppercase) for _ in range(letters)) + "".join(
        rng.choice(string.digits) for _ in range(digits)
    )
    check = 98 - int("".join(str(int(c, 36)) for c in f"{body}{country}00")) % 97
    number = f"{country}{check:02}{body}"
    return number if rng.random() < 0.5 else " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def _of(prefix: str, *parts: tuple[str, int] | str) -> Make:
    def make(rng: random.Random) -> str:
        return prefix + "".join(part if isinstance(part, str) else some(rng, *part) for part in parts)

    return make


TOKENS: dict[str, Make] = {
    "github ghp": _of("ghp_", (MIXED, 36)),
    "github gho": _of("gho_", (MIXED, 36)),
    "github ghs": _of("ghs_", (MIXED, 36)),
    "github pat": _of("github_pat_", (MIXED, 22), "_", (MIXED, 59)),
    "gitlab pat": _of("glpat-", (URL64, 20)),
    "gitlab deploy": _of("gldt-", (URL64, 20)),
    "gitlab runner": _of("glrt-", (URL64, 20)),
    "gitlab trigger": _of("glptt-", (HEX, 40)),
    "slack bot": _of("xoxb-", (string.digits, 12), "-", (string.digits, 12), "-", (MIXED, 24)),
    "slack user": _of("xoxp-", (string.digits, 12), "-", (string.digits, 12), "-", (string.digits, 12), "-", (HEX, 32)),
    "slack app": _of("xapp-1-A", (UPPER, 10), "-", (string.digits, 13), "-", (HEX, 64)),
    "slack webhook": _of("https://hooks.slack.com/services/T", (UPPER, 8), "/B", (UPPER, 8), "/", (MIXED, 24)),
    "stripe live": _of("sk_live_", (MIXED, 24)),
    "stripe restricted": _of("rk_live_", (MIXED, 24)),
    "stripe test": _of("sk_test_", (MIXED, 99)),
    "stripe webhook": _of("whsec_", (MIXED, 32)),
    "aws id": _of("AKIA", (string.ascii_uppercase + "234567", 16)),
    "aws temporary id": _of("ASIA", (string.ascii_uppercase + "234567", 16)),
    "google api": _of("AIza", (URL64, 35)),
    "google oauth": _of("ya29.", (URL64, 60)),
    "google client secret": _of("GOCSPX-", (URL64, 28)),
    "azure client secret": _of("", (MIXED, 3), "8Q~", (MIXED + "_~.-", 34)),
    "azure storage": _of("DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=", (BASE64, 86), "=="),
    "azure sas": _of("https://shop.blob.core.windows.net/c?sv=2022-11-02&ss=b&se=2026-01-01&sig=", (MIXED, 43), "%3D"),
    "twilio key": _of("SK", (HEX, 32)),
    "sendgrid": _of("SG.", (URL64, 22), ".", (URL64, 43)),
    "mailgun": _of("key-", (HEX, 32)),
    "mailchimp": _of("", (HEX, 32), "-us12"),
    "npm": _of("npm_", (MIXED, 36)),
    "pypi": _of("pypi-AgEIcHlwaS5vcmc", (URL64, 90)),
    "digitalocean": _of("dop_v1_", (HEX, 64)),
    "digitalocean oauth": _of("doo_v1_", (HEX, 64)),
    "huggingface": _of("hf_", (string.ascii_letters, 34)),
    "openai project": _of("sk-proj-", (URL64, 74), "T3BlbkFJ", (URL64, 74)),
    "openai": _of("sk-", (MIXED, 20), "T3BlbkFJ", (MIXED, 20)),
    "anthropic": _of("sk-ant-api03-", (URL64, 93), "AA"),
    "shopify": _of("shpat_", (HEX, 32)),
    "square": _of("sq0atp-", (URL64, 22)),
    "square access": _of("EAAA", (MIXED, 60)),
    "telegram": _of("", (string.digits[1:], 10), ":AA", (URL64, 33)),
    "discord bot": _of("M", (MIXED, 23), ".", (MIXED, 6), ".", (URL64, 38)),
    "databricks": _of("dapi", (HEX, 32)),
    "vault": _of("hvs.", (URL64, 92)),
    "terraform": _of("", (MIXED, 14), ".atlasv1.", (URL64, 67)),
    "grafana": _of("glsa_", (MIXED, 32), "_", (HEX, 8)),
    "newrelic": _of("NRAK-", (UPPER, 27)),
    "sentry": _of("sntryu_", (HEX, 64)),
    "linear": _of("lin_api_", (MIXED, 40)),
    "notion": _of("ntn_", (MIXED, 46)),
    "postman": _of("PMAK-", (HEX, 24), "-", (HEX, 34)),
    "docker": _of("dckr_pat_", (URL64, 27)),
    "figma": _of("figd_", (URL64, 40)),
    "airtable": _of("pat", (MIXED, 14), ".", (HEX, 64)),
    "alibaba": _of("LTAI", (MIXED, 20)),
    "atlassian": _of("ATATT3", (URL64, 186)),
    "dropbox": _of("sl.", (URL64, 136)),
    "facebook": _of("EAAM", (MIXED, 120)),
    "age": _of("AGE-SECRET-KEY-1", ("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    "jwt": jwt,
    "pem rsa": pem("RSA PRIVATE KEY"),
    "pem pkcs8": pem("PRIVATE KEY"),
    "pem openssh": pem("OPENSSH PRIVATE KEY"),
    "pgp": pem("PGP PRIVATE KEY BLOCK"),
    "django hash": _of("pbkdf2_sha256$600000$", (MIXED, 22), "$", (BASE64, 43), "="),
    "bcrypt": _of("$2b$12$", (MIXED + "./", 53)),
    # held-out only
    "pulumi": _of("pul-", (HEX, 40)),
    "rubygems": _of("rubygems_", (HEX, 48)),
    "easypost": _of("EZAK", (MIXED, 54)),
    "prefect": _of("pnu_", (LOWER, 36)),
    "typeform": _of("tfp_", (URL64, 59)),
    "doppler": _of("dp.pt.", (MIXED, 43)),
    "planetscale": _of("pscale_tkn_", (MIXED, 43)),
    "sendinblue": _of("xkeysib-", (HEX, 64), "-", (MIXED, 16)),
    "supabase": _of("sbp_", (HEX, 40)),
    "shippo": _of("shippo_live_", (HEX, 40)),
    # development only
    "readme": _of("rdme_", (LOWER, 70)),
    "perplexity": _of("pplx-", (MIXED, 48)),
    "netlify": _of("nfp_", (MIXED, 36)),
    "heroku": _of("HRKU-AA", (URL64, 58)),
    "flutterwave": _of("FLWSECK-", (HEX, 32), "-X"),
    "duffel": _of("duffel_live_", (URL64, 43)),
    "dynatrace": _of("dt0c01.", (UPPER, 24), ".", (UPPER, 64)),
    "mapbox": _of("sk.eyJ1Ijoi", (MIXED, 60), ".", (URL64, 22)),
    "settlemint": _of("sm_pat_", (MIXED, 16)),
    "lob": _of("live_", (HEX, 35)),
    "buildkite": _of("bkua_", (HEX, 40)),
    "intra42": _of("s-s4t2ud-", (HEX, 64)),
    "fly": _of("fo1_", (URL64, 43)),
    "cloudsmith": _of("csr_", (LOWER, 44)),
}  # fmt: skip
#: Where the secret begins in what is public otherwise.
PUBLIC_UP_TO = {"slack webhook": "/", "azure sas": "sig=", "azure storage": "AccountKey="}
DEVELOPMENT_ONLY = frozenset(
    "readme perplexity netlify heroku flutterwave duffel dynatrace mapbox settlemint lob buildkite intra42 fly cloudsmith".split()
)
HELD_OUT_ONLY = frozenset(
    "pulumi rubygems easypost prefect typeform doppler planetscale sendinblue supabase shippo".split()
)
