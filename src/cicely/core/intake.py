"""How much a child claims: what it can start now, and a little more of what has been short.

There is no prefetch setting. A job is claimed ahead only while the recent runs of its task were
short, and only about 20 ms of work at a time, so that nothing waits behind a stranger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

BUFFER_S: Final = 0.020
BUFFER_JOBS: Final = 400
TAKE_BACK_S: Final = 0.250

#: A run costs at least this, whatever the clock says: claiming, decoding and settling it.
_FLOOR_S: Final = 0.00005
_RUNS: Final = 16


class Paces:
    """How long the recent runs of each task took."""

    def __init__(self) -> None:
        self._runs: dict[str, deque[float]] = {}
        #: Per task that has run, after how many short runs all recent ones are short.
        self._until_short: dict[str, int] = {}

    def ran(self, task: str, seconds: float) -> None:
        """Note one run."""
        try:
            self._runs[task].append(seconds)
        except KeyError:
            self._runs[task] = deque((seconds,), _RUNS)
            self._until_short[task] = 0
        if seconds > BUFFER_S:
            self._until_short[task] = _RUNS
        elif self._until_short[task]:
            self._until_short[task] -= 1

    def is_short(self, task: str) -> bool:
        """Return whether all recent runs of `task` were short, and there was one."""
        # Asked before every job: a look at all recent runs would cost as much as the rest of it.
        return self._until_short.get(task) == 0

    def short(self) -> dict[str, float]:
        """Return the tasks that may be claimed ahead, each with the expected seconds of a run."""
        # Copied at once: the threads that run jobs add tasks while this one looks.
        return {
            task: max(_FLOOR_S, sum(runs) / len(runs))
            for task, runs in list(self._runs.items())
            if max(runs) <= BUFFER_S
        }


class Turns:
    """The order in which a child asks the queues, claim by claim.

    `groups` are tried one after the other; the queues of one group take turns, by their weights
    (smooth weighted round robin, so that a weight of 3 to 1 gives h h b h, not h h h b).
    """

    def __init__(self, groups: Sequence[Sequence[tuple[str, float]]]) -> None:
        self._groups = [list(group) for group in groups]
        self._credit = {name: 0.0 for group in groups for name, _ in group}

    def next(self) -> tuple[str, ...]:
        """Return all queues in the order of the next claim."""
        return tuple(name for group in self._groups for name in self._turn(group))

    def _turn(self, group: list[tuple[str, float]]) -> list[str]:
        if len(group) == 1:
            return [group[0][0]]
        for name, weight in group:
            self._credit[name] += weight
        order = sorted(group, key=lambda item: -self._credit[item[0]])
        self._credit[order[0][0]] -= sum(weight for _, weight in group)
        return [name for name, _ in order]
