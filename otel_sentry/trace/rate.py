"""The rate of another backend: whole traces, the same ones in every service, told from the trace id alone.

As OpenTelemetry's consistent probability sampling has it (specification, "TraceState: Probability Sampling"): the last
56 bits of the trace id are its random number; kept is what is not below the threshold. Lower rates keep a part of what
higher ones keep, so that the highest rate of several backends decides whether a trace is recorded at all.
"""

from __future__ import annotations

_SPACE = 1 << 56


def keeps(trace_id: int, rate: float) -> bool:
    """Is the trace within *rate* (0 to 1)?"""
    return rate >= 1.0 or (trace_id & (_SPACE - 1)) >= (1.0 - rate) * _SPACE
