"""A finished segment on its way to the sender's thread, where it is encoded."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otel_sentry import counters
from otel_sentry.trace import buffer, rules

if TYPE_CHECKING:
    from otel_sentry.sentry.sender import Envelope
    from otel_sentry.trace.segment import Segment

    Encode = Callable[[Segment], "Envelope | list[Envelope] | None"]


class SegmentItem:
    """A finished segment in the sender's queue, encoded there."""

    __slots__ = ("_encode", "_ignored", "_put", "categories", "not_before", "segment", "size")

    def __init__(
        self,
        segment: Segment,
        encode: Encode,
        grace: float,
        put: Callable[[Any], Any],
        transactions: bool = True,
        ignored: tuple[rules.SpanRule, ...] = (),
    ) -> None:
        self.segment = segment
        self._encode = encode
        self._put = put
        self._ignored = ignored
        self.size = buffer.SPAN_BYTES + segment.size
        self.not_before = time.monotonic() + grace
        spans = ("span", len(segment.spans) + (segment.root is not None and not segment.is_part))
        self.categories = (("transaction", 1), spans) if transactions and not segment.is_part else (spans,)

    def ready(self, now: float) -> bool:
        """All children ended, or the grace for late ones is over."""
        return not self.segment.open or now >= self.not_before

    def encode(self) -> Envelope | None:
        """Take what has ended so far and make an envelope of it; if it takes more than one, the rest is queued."""
        segment = self.segment
        # This order and the one in `on_end` (append, then look at `sent`) lose no span: it is either taken here
        # or seen as late there.
        segment.sent = True
        taken = copy.copy(segment)
        taken.spans = buffer.take_all(segment.spans)
        taken.open = dict(segment.open)
        if self._ignored and taken.spans:
            wanted = {span_id for span_id, _ in segment.event_ids}
            taken.spans, number = rules.without_ignored(taken.spans, self._ignored, wanted)
            counters.lost("ignored", "span", number)
        made = self._encode(taken)
        if not isinstance(made, list):
            return made
        if len(made) > 1:
            from otel_sentry.sentry.outgoing import Ready

            for one in made[1:]:
                self._put(Ready(one))
        return made[0] if made else None


def encoder(common: Callable[[], Any]) -> Encode:
    """Segment -> envelopes in the format of *common*, with the module loaded at the first one."""

    def encode(segment: Segment) -> list[Envelope]:
        from otel_sentry.sentry import formats

        return formats.encode(segment, common())

    return encode
