"""How far a group or workflow is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from cicely.core.states import State


class WorkflowProgress(msgspec.Struct, frozen=True):
    """How many of its jobs have ended, of how many, and how many are in each state."""

    done: int
    total: int
    states: Mapping[State, int]

    def __str__(self) -> str:
        """Say it in words."""
        by_state = ", ".join(f"{count:,} {state}" for state, count in self.states.items())
        return f"{self.done:,} of {self.total:,}" + (f": {by_state}" if by_state else "")


def progress_of(states: Iterable[State]) -> WorkflowProgress:
    """Return the progress of jobs in these states."""
    counts = Counter(states)
    return WorkflowProgress(
        done=sum(count for state, count in counts.items() if state.is_final),
        total=counts.total(),
        states={state: counts[state] for state in State if counts[state]},
    )
