"""Who is charged when a child dies, and how the attempts end that stood on its board."""

from __future__ import annotations

from collections.abc import Sequence

from cicely.core.outcome import Crashed, HandedBack, Outcome
from cicely.worker.board import Board
from cicely.worker.limits import limit_outcome
from cicely.worker.processes import death_of


def blame(board: Board, status: int) -> tuple[Outcome, ...]:
    """Charge the one attempt that can have killed its child; of several, make suspects."""
    started = [running for running in board.running() if not running.pid]
    how = death_of(status)
    if len(started) == 1:
        return (Crashed(started[0].token, how),)
    reason = f"one of {len(started)} jobs whose process {how}"
    return tuple(HandedBack(running.token, reason, alone=True, has_started=True) for running in started)


def ends_of_neighbours(board: Board, judged: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Say how the other attempts ended that stood on a dead child's board."""
    done = {outcome.token for outcome in judged}
    ends: list[Outcome] = []
    for attempt in board.running():
        if attempt.token in done:
            continue
        if verdict := board.verdict(attempt.slot):
            ends.append(limit_outcome(attempt, verdict))
        else:
            reason = "its process ended for no fault of its own"
            ends.append(HandedBack(attempt.token, reason, has_started=True))
    return tuple(ends)
