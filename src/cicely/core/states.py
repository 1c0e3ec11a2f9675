"""The states of a job and the one table of moves between them.

Engines, the command line and the tests read this table; nothing else says which move is allowed.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class State(StrEnum):
    """Where a job stands. The last four are final: only `revive` leaves three of them."""

    SCHEDULED = "scheduled"
    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether no worker will move the job any more."""
        return self in FINAL


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})
LIVE = frozenset(State) - FINAL


class Move(msgspec.Struct, frozen=True):
    """One kind of step: the states it may start from and the state it ends in (None: deleted)."""

    sources: frozenset[State]
    target: State | None


#: Cancelling a running job is a request: it stays `running`, and whatever outcome follows ends it.
MOVES = {
    "claim": Move(frozenset({State.READY}), State.RUNNING),
    "promote": Move(frozenset({State.SCHEDULED, State.WAITING}), State.READY),
    "release": Move(frozenset({State.RUNNING, State.WAITING}), State.READY),
    "retry": Move(frozenset({State.RUNNING}), State.SCHEDULED),
    "suspend": Move(frozenset({State.RUNNING}), State.WAITING),
    "succeed": Move(frozenset({State.RUNNING}), State.SUCCEEDED),
    "fail": Move(frozenset({State.RUNNING, State.READY}), State.FAILED),
    "cancel": Move(LIVE, State.CANCELLED),
    "expire": Move(frozenset({State.READY, State.SCHEDULED}), State.EXPIRED),
    "revive": Move(FINAL - {State.SUCCEEDED}, State.READY),
    "discard": Move(FINAL, None),
}


def allows(move: str, state: State) -> bool:
    """Return whether `move` may start from `state`."""
    return state in MOVES[move].sources
