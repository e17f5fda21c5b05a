"""Local variables fit into what Sentry takes, and each keeps something."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_sentry.sentry.frames import trim
from tests.support.relay import assert_relay_ok


def _event(variables: dict[str, Any]) -> dict[str, Any]:
    frame = {"filename": "a.py", "function": "f", "lineno": 1, "vars": variables}
    return {
        "event_id": "a" * 32,
        "exception": {"values": [{"type": "E", "value": "v", "stacktrace": {"frames": [frame]}}]},
    }


def test_small_variables_stay() -> None:
    """What fits is not touched."""
    event = _event({"a": "1", "b": ["x", {"y": 2}]})
    assert trim(event) == _event({"a": "1", "b": ["x", {"y": 2}]})


def test_one_long_variable_leaves_room_for_the_others() -> None:
    """A long text is cut; its neighbours stay whole."""
    event = trim(_event({"long": "x" * 100_000, "short": "kept", "deep": [["y" * 5000]]}))
    variables = event["exception"]["values"][0]["stacktrace"]["frames"][0]["vars"]
    assert variables["short"] == "kept" and variables["long"].endswith("…") and len(variables["long"]) > 300
    assert_relay_ok(event)


_VALUES = st.recursive(
    st.text(max_size=900) | st.integers(-(2**53), 2**53) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=20), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=30), _VALUES, max_size=40))
def test_relay_has_nothing_to_cut(variables: dict[str, Any]) -> None:
    """Whatever the variables are, they are within the limit, and their number is kept as far as there is room."""
    event = trim(_event(variables))
    kept = event["exception"]["values"][0]["stacktrace"]["frames"][0]["vars"]
    assert len(kept) >= min(len(variables), 8)
