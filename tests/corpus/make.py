"""Writes the scrubber's corpus: `development.jsonl` and `held_out.jsonl`, the same bytes each time.

usage: python -m tests.corpus.make

A line is `{"group", "as", "key"?, "text", "secret"?}`: scrub the text as what it is (`text`; `attribute` and `header`
under `key`; `url`; `sql`; `redis`); nothing of the secret may be left, or, where there is none, the text must be unchanged.
Texts stand in pieces, so that no scanner of repositories takes them for real.

The held-out part was written first, apart from the rules; no rule may be made from what it shows. Its sentences, names
and values are its own, and so are ten of its token formats.
"""

# ruff: noqa: E501 (tables; random on purpose)

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import random
import string
import uuid
from collections.abc import Iterator
from typing import Any

from tests.corpus import formats, hand
from tests.corpus.formats import HEX, LOWER, MIXED, UPPER, URL64, some

FOLDER = pathlib.Path(__file__).parent
Case = dict[str, Any]


def case(group: str, kind: str, text: str, secret: str | None = None, key: str | None = None) -> Case:
    """One line of the corpus."""
    found: Case = {"group": group, "as": kind, "text": text}
    if key is not None:
        found["key"] = key
    if secret is not None:
        assert secret in text, (text, secret)
        found["secret"] = secret
    return found


def positive(part: str, rng: random.Random) -> Iterator[Case]:
    """Secrets in the places where telemetry has them."""
    words = hand.SENTENCES[part]
    for name, make in formats.TOKENS.items():
        if name in (formats.HELD_OUT_ONLY if part == "development" else formats.DEVELOPMENT_ONLY):
            continue
        for sentence in rng.sample(words, 3):
            token = make(rng)
            secret = token.rpartition(formats.PUBLIC_UP_TO[name])[2] if name in formats.PUBLIC_UP_TO else token
            yield case(f"token: {name}", "text", sentence.format(token), secret)
    for kind, key in hand.SECRET_KEYS[part]:
        secret = some(rng, rng.choice([MIXED, LOWER, HEX]), rng.choice([8, 12, 20, 32]))
        yield case("name", kind, secret, secret, key)
    for sentence in hand.NAMED[part]:
        secret = some(rng, MIXED, rng.choice([9, 14, 24]))
        yield case("name in text", "text", sentence.format(secret), secret)
    for text in hand.URLS[part]:
        secret = some(rng, URL64, 18).replace("-", "x")
        yield case("url", "url", text.format(secret), secret)
    for text in hand.CONNECTIONS[part]:
        secret = some(rng, MIXED, 13)
        yield case("connection string", "text", text.format(secret), secret)
    for text in hand.DETAILS[part]:
        secret = rng.choice(hand.NAMES) + some(rng, string.digits, 3)
        yield case("database message", "text", text.format(secret), secret)
    for text in hand.SQL[part]:
        secret = rng.choice(hand.NAMES) + some(rng, string.digits, 4)
        yield case("sql literal", "sql", text.format(secret), secret)
    for text in hand.REDIS[part]:
        secret = rng.choice(hand.NAMES) + some(rng, string.digits, 4)
        yield case("redis argument", "redis", text.format(secret), secret)
    for sentence in hand.CARD_SENTENCES[part]:
        for _ in range(4):
            secret = formats.card(rng)
            yield case("card", "text", sentence.format(secret), secret)
    for sentence in hand.IBAN_SENTENCES[part]:
        for _ in range(2):
            secret = formats.iban(rng)
            yield case("iban", "text", sentence.format(secret), secret)
    for sentence in hand.MAIL_SENTENCES[part]:
        for _ in range(3):
            secret = f"{rng.choice(hand.NAMES)}{rng.choice(['.', '_', '+', ''])}{rng.choice(hand.NAMES)}@{rng.choice(hand.HOSTS)}"
            yield case("e-mail", "text", sentence.format(secret), secret)


def negative(part: str, rng: random.Random) -> Iterator[Case]:
    """What looks like a secret and is none."""
    for name, make in HARMLESS.items():
        for sentence in rng.sample(hand.PLAIN_SENTENCES[part], 5):
            yield case(f"plain: {name}", "text", sentence.format(make(rng)))
    for key in hand.PLAIN_KEYS[part]:
        yield case(
            "plain: name", "attribute", rng.choice(["7", "checkout", "eu-west-1", some(rng, LOWER, 10)]), key=key
        )
    for text in hand.PLAIN_TEXTS[part]:
        yield case("plain: text", "text", text)
    for text in hand.PLAIN_URLS[part]:
        yield case("plain: url", "url", text)
    for text in hand.PLAIN_SQL[part]:
        yield case("plain: sql", "sql", text)


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _sha(name: str, size: int = 99) -> Any:
    return lambda rng: getattr(hashlib, name)(rng.randbytes(9)).hexdigest()[:size]


HARMLESS: dict[str, Any] = {
    "uuid": _uuid,
    "trace id": lambda rng: some(rng, HEX, 32),
    "span id": lambda rng: some(rng, HEX, 16),
    "traceparent": lambda rng: f"00-{some(rng, HEX, 32)}-{some(rng, HEX, 16)}-01",
    "git sha": _sha("sha1"),
    "short sha": _sha("sha1", 7),
    "sha256": _sha("sha256"),
    "image digest": lambda rng: f"registry.example/shop@sha256:{some(rng, HEX, 64)}",
    "md5": _sha("md5"),
    "ulid": lambda rng: "01" + some(rng, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24),
    "order": lambda rng: f"{rng.choice(['ORD', 'SO', 'INV', 'PO'])}-{rng.randrange(2020, 2027)}-{rng.randrange(10**6):06}",
    "long number": lambda rng: str(rng.randrange(10**11, 10**12)),
    "snowflake": lambda rng: str(rng.randrange(10**17, 10**18)),
    "nanoseconds": lambda rng: str(rng.randrange(1_700_000_000_000_000_000, 1_800_000_000_000_000_000)),
    "milliseconds": lambda rng: str(rng.randrange(1_700_000_000_000, 1_800_000_000_000)),
    "iso time": lambda rng: f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:{rng.randrange(60):02}:07.{rng.randrange(10**6):06}Z",
    "version": lambda rng: f"{rng.randrange(9)}.{rng.randrange(40)}.{rng.randrange(20)}{rng.choice(['', 'rc1', '.post2', '+local.7', '-beta.3'])}",
    "phone": lambda rng: f"+{rng.choice([1, 44, 49, 33])} {rng.randrange(100, 999)} {rng.randrange(100, 999)} {rng.randrange(1000, 9999)}",
    "ean": lambda rng: str(rng.randrange(4 * 10**12, 5 * 10**12)),
    "product": lambda rng: f"{some(rng, UPPER, 3)}-{some(rng, string.digits, 5)}-{some(rng, UPPER, 2)}",
    "stripe object": lambda rng: f"{rng.choice(['pi', 'ch', 'in', 'txn'])}_{some(rng, MIXED, 24)}",
    "stripe customer": lambda rng: f"cus_{some(rng, MIXED, 14)}",
    "publishable key": lambda rng: f"pk_live_{some(rng, MIXED, 24)}",
    "pod": lambda rng: f"shop-web-{some(rng, LOWER, 9)}-{some(rng, LOWER, 5)}",
    "instance": lambda rng: f"i-0{some(rng, HEX, 16)}",
    "request id": lambda rng: f"req_{some(rng, MIXED, 16)}",
    "etag": lambda rng: f'W/"{some(rng, HEX, 32)}"',
    "address": lambda rng: f"<shop.models.Order object at 0x7f{some(rng, HEX, 10)}>",
    "image": lambda rng: "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + rng.randbytes(60)).decode(),
    "task": lambda rng: f"Task posts.tasks.publish[{_uuid(rng)}] succeeded in 0.{rng.randrange(1000):03}s",
    "file": lambda rng: f"media/2026/11/{some(rng, LOWER, 12)}_{rng.randrange(4096)}x{rng.randrange(4096)}.jpg",
    "static file": lambda rng: f"/static/js/app.{some(rng, HEX, 12)}.js",
    "sku list": lambda rng: ", ".join(some(rng, UPPER, 8) for _ in range(4)),
    "coordinates": lambda rng: f"{rng.uniform(-90, 90):.6f},{rng.uniform(-180, 180):.6f}",
    "amount": lambda rng: f"{rng.randrange(1, 9999)}.{rng.randrange(100):02} EUR",
    "ip and port": lambda rng: f"10.{rng.randrange(256)}.{rng.randrange(256)}.7:{rng.randrange(1024, 65535)}",
    "arn": lambda rng: f"arn:aws:sqs:eu-west-1:{rng.randrange(10**11, 10**12)}:orders",
    "queue": lambda rng: f"celery@worker-{rng.randrange(9)}-{some(rng, HEX, 8)}",
    "slug": lambda rng: f"blue-summer-dress-{some(rng, LOWER, 6)}",
    "constraint": lambda rng: f"accounts_user_groups_user_id_group_id_{some(rng, HEX, 8)}_uniq",
    "migration": lambda rng: f"0{rng.randrange(100, 999)}_alter_user_last_login_{some(rng, HEX, 4)}",
}  # fmt: skip


def cases(part: str) -> list[Case]:
    """All of `development` or `held_out`."""
    rng = random.Random(f"otel-sentry {part} 1")
    return [*positive(part, rng), *negative(part, rng)]


def _pieces(text: str) -> list[str]:
    return [text[start : start + 7] for start in range(0, len(text), 7)]


def write() -> None:
    """Both files."""
    for part in ("held_out", "development"):
        lines = []
        for one in cases(part):
            split = {**one, "text": _pieces(one["text"])}
            if "secret" in one:
                split["secret"] = _pieces(one["secret"])
            lines.append(json.dumps(split, ensure_ascii=False) + "\n")
        (FOLDER / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")


def load(part: str) -> list[Case]:
    """What is in a part's file, texts whole."""
    found = []
    for line in (FOLDER / f"{part}.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        found.append({**one, **{name: "".join(one[name]) for name in ("text", "secret") if name in one}})
    return found


if __name__ == "__main__":
    write()
