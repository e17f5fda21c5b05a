"""How many secrets of a part the scrubber finds, and how often it takes what is none for one.

usage: python -m tests.corpus.measure [held_out|development] [--misses]
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from otel_sentry import privacy
from tests.corpus import make


@dataclass
class Measured:
    """Figures of one part."""

    positives: int = 0
    negatives: int = 0
    missed: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[dict[str, Any]] = field(default_factory=list)
    groups: Counter[str] = field(default_factory=Counter)

    @property
    def recall(self) -> float:
        """Share of the secrets that are gone."""
        return 1 - len(self.missed) / self.positives

    @property
    def false_positives(self) -> float:
        """Share of the harmless that was changed."""
        return len(self.wrong) / self.negatives

    def __str__(self) -> str:
        return (
            f"{self.positives} secrets, {len(self.missed)} missed: recall {self.recall:.1%}; "
            f"{self.negatives} harmless, {len(self.wrong)} changed: false positives {self.false_positives:.1%}"
        )


def scrubbed(case: dict[str, Any]) -> str:
    """What of the case would leave the process, without personal data."""
    text, kind = case["text"], case["as"]
    if kind == "attribute":
        return str(privacy.scrub({case["key"]: text}).get(case["key"], ""))
    if kind == "header":
        return privacy.scrub_headers({case["key"]: text})[case["key"]]
    if kind == "url":
        return str(privacy.scrub({"url.full": text})["url.full"])
    if kind == "sql":
        return privacy.scrub_statement(text, "postgresql")
    if kind == "redis":
        return privacy.scrub_statement(text, "redis")
    return privacy.scrub_text(text)


def is_left(secret: str, text: str) -> bool:
    """Whether the secret, or half of a longer one, is in the text."""
    half = len(secret) // 2
    return secret in text or (len(secret) >= 16 and (secret[:half] in text or secret[-half:] in text))


def measure(part: str) -> Measured:
    """Scrub every case of *part*."""
    found = Measured()
    for case in make.load(part):
        out = scrubbed(case)
        if "secret" in case:
            found.positives += 1
            if is_left(case["secret"], out):
                found.missed.append(case)
        else:
            found.negatives += 1
            if out != case["text"]:
                found.wrong.append({**case, "out": out})
    return found


def main() -> None:
    """Print the figures; with `--misses` the development part's cases too (and of the held-out part only groups)."""
    parts = [arg for arg in sys.argv[1:] if not arg.startswith("-")] or ["development", "held_out"]
    for part in parts:
        found = measure(part)
        print(f"{part}: {found}")
        if part == "development" and "--misses" in sys.argv:
            for case in found.missed + found.wrong:
                print("  ", case)
        else:
            print("  ", dict(Counter(case["group"] for case in found.missed + found.wrong)))


if __name__ == "__main__":
    main()
