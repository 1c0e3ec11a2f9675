"""What the random verbs of `machine` choose from.

No duration is a multiple of a quarter of a second, and clocks move by quarters: so no deadline is
ever met exactly, where the contract does not say which side it falls on.
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Stopped, Succeeded
from cicely.engines.contract import Ask

QUEUES: Final = ("main", "side")
LEASE_S: Final = 30.1875
#: All that a random choice may point back to: the latest few jobs, claims and requests.
BACK: Final = st.integers(0, 11)

SLOT_KINDS: Final = (Kind.SYNC, Kind.ASYNC, Kind.ISOLATED)
OUTCOMES: Final = st.sampled_from(
    [
        Succeeded(b"", b"result"),
        Succeeded(b"", b"another result"),
        Failed(b"", "error", b"why"),
        Failed(b"", "error", b"why", retry_in_s=0.0),
        Failed(b"", "timeout", retry_in_s=5.0625),
        Failed(b"", "timeout", retry_in_s=60.0625),
        Crashed(b"", "killed by signal 9"),
        Crashed(b"", "exited with 3"),
        HandedBack(b"", "stopped"),
        HandedBack(b"", "stopped in its midst", has_started=True),
        HandedBack(b"", "its process died", alone=True),
        Deferred(b"", 0.0, "not yet"),
        Deferred(b"", 20.0625, "not yet"),
        Stopped(b"", "asked to"),
    ]
)
ASKS: Final = st.one_of(
    st.builds(Ask, st.just(SLOT_KINDS), st.integers(1, 4)),
    st.builds(Ask, st.just((Kind.SYNC,)), st.integers(0, 2)),
    st.builds(
        Ask,
        st.just((Kind.SYNC, Kind.ASYNC)),
        st.integers(0, 1),
        st.just({"work": 0.3, "other": 0.5}),
        st.just(1.0),
        st.integers(1, 3),
    ),
    st.just(Ask((Kind.MESSAGE,), 2)),
)
CLOCK_STEPS: Final = st.sampled_from([0.25, 1.0, 11.0, 21.0, 61.0, 310.0, -0.5, -3.0])


def plain_job(number: int) -> NewJob:
    """Return a job with nothing special about it."""
    return NewJob(
        id=f"j{number}",
        task="work",
        kind=Kind.SYNC,
        queue="main",
        body=b"body %d" % number,
        tags=("red",) * (number % 2),
        keep_s=300.0625,
        keep_failed_s=3000.0625,
    )
