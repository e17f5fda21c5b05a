"""sentry-trace and baggage as text: what is read, what is refused, what is written."""

from __future__ import annotations

import pytest

from otel_sentry.trace.headers import (
    MAX_BYTES,
    SentryTrace,
    format_sentry_trace,
    header_text,
    merge_baggage,
    parse_sentry_trace,
    sentry_items,
    third_party,
)

TRACE, SPAN = "a" * 32, "b" * 16


@pytest.mark.parametrize(("suffix", "sampled"), [("", None), ("-1", True), ("-0", False)])
def test_sentry_trace_is_a_tri_state(suffix: str, sampled: bool | None) -> None:
    """The flag is true, false or absent (deferred), and is written as it was read."""
    text = f"{TRACE}-{SPAN}{suffix}"
    assert parse_sentry_trace(text) == SentryTrace(int(TRACE, 16), int(SPAN, 16), sampled)
    assert format_sentry_trace(int(TRACE, 16), int(SPAN, 16), sampled) == text


def test_of_duplicates_the_first_counts() -> None:
    """Comma-joined duplicates: the first non-empty one, as in sentry-python."""
    found = parse_sentry_trace(f" ,{TRACE}-{SPAN}-0,{'c' * 32}-{SPAN}-1")
    assert found is not None and found.sampled is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-",
        "--",
        "1",
        f"{TRACE}",
        f"{TRACE}-",
        f"-{SPAN}",
        f"{TRACE}-{SPAN}-2",
        f"{TRACE}-{SPAN}-11",
        f"{TRACE}-{SPAN}-",
        f"{TRACE.upper()}-{SPAN}",
        f"{'0' * 32}-{SPAN}-1",
        f"{TRACE}-{'0' * 16}-1",
        f"{TRACE}-{SPAN}-1\n",
        f"x{TRACE}-{SPAN}",
        f"{TRACE}-{SPAN}-1,".ljust(MAX_BYTES + 1, " "),
        "\u0661" * 32 + "-" + SPAN,
        "\x00",
        f"{TRACE}-{SPAN}\u00a0",
    ],
)
def test_malformed_sentry_trace_is_absent(text: str) -> None:
    """Wrong lengths, zero ids, upper case, trailing newlines, non-ASCII digits: as if there were none."""
    assert parse_sentry_trace(text) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (None, ""),
        ("a", "a"),
        (b"a", "a"),
        (["a", "b"], "a,b"),
        ((b"a", "b"), "a,b"),
        (list(b"ab"), "ab"),
        ([], ""),
        ([None], ""),
        (5, ""),
        ({"a": 1}, ""),
        ([300, 1], ""),
        ([True], ""),
        ([["a"]], ""),
        ([b"\xff"], "\xff"),
    ],
)
def test_header_text_reads_what_getters_return(values: object, text: str) -> None:
    """None, text, bytes, lists of them, and the list of ints that DefaultGetter makes of bytes."""
    assert header_text(values) == text


def test_sentry_items_are_decoded_and_the_first_of_two_counts() -> None:
    """Prefix off, percent and plus decoded, properties off; a doubled header stays a pair with its
    sentry-trace."""
    text = "a=1, sentry-trace_id=x ;p=1,sentry-transaction=GET%20%2Fx,sentry-release=r%2B1,sentry-env=a+b"
    text += ",sentry-trace_id=y"
    assert sentry_items(text) == {"trace_id": "x", "transaction": "GET /x", "release": "r+1", "env": "a b"}


def test_keys_keep_a_second_prefix() -> None:
    """The key is everything after the first prefix."""
    assert sentry_items("sentry-sentry-x=1") == {"sentry-x": "1"}


@pytest.mark.parametrize("text", ["sentry-", "sentry-=1", "sentry-a", "sentry-a=", "sentry-a=%0a", "sentry-a b=1"])
def test_malformed_items_are_skipped(text: str) -> None:
    """No key, no value, control characters, a key with a space: skipped."""
    assert sentry_items(text) == {}


def test_more_than_8_kib_is_cut_at_a_member() -> None:
    """Past 8 KiB whole members that fit are read, never half of one."""
    text = "sentry-a=1,x=" + "y" * 8000 + ",sentry-b=" + "z" * 300
    assert sentry_items(text) == {"a": "1"}
    assert sentry_items("sentry-a=" + "z" * 9000) == {}


def test_third_party_members_stay_as_they_are() -> None:
    """Properties and encoding untouched; ours, empty members and what no header may hold are left out."""
    assert third_party("a=1;p=2, b=%20,,sentry-x=1,c=\r\nX: 1,\u00e9=1") == ["a=1;p=2", "b=%20"]


def test_merge_puts_the_dsc_last_and_drops_third_party_from_the_end() -> None:
    """8192 bytes and 64 members in all; the DSC always goes, third-party members last-in first."""
    assert merge_baggage(["a=1"], {"trace_id": "t", "transaction": "GET /x y"}) == (
        "a=1,sentry-trace_id=t,sentry-transaction=GET%20/x%20y"
    )
    many = merge_baggage([f"k{i}=1" for i in range(100)], {"trace_id": "t"}).split(",")
    assert len(many) == 64 and many[:2] == ["k0=1", "k1=1"] and many[62:] == ["k62=1", "sentry-trace_id=t"]
    long = merge_baggage(["a=" + "x" * 5000, "b=" + "x" * 5000, "c=1"], {"trace_id": "t"})
    assert long.startswith("a=x") and "b=" not in long and long.endswith("sentry-trace_id=t")


def test_merge_never_passes_the_limit() -> None:
    """A DSC that is too long by itself loses its oversize items."""
    text = merge_baggage(["a=1"], {"trace_id": "t", "x": "\u00e9" * 4000, "release": "r"})
    assert text == "a=1,sentry-trace_id=t,sentry-release=r"


def test_lone_surrogates_do_not_raise() -> None:
    """Text from a surrogateescape decoding is replaced, not raised over."""
    assert merge_baggage([], {"a": "\udc80"}) == "sentry-a=%3F"
