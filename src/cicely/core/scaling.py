"""How many processes a backlog wants: up at once, down only after a calm while, one by one."""

from __future__ import annotations

import math
from typing import Final

import msgspec

#: A waiting job weighs one where jobs take so long; shorter ones weigh less, longer ones more.
USUAL_JOB_S: Final = 0.1
_LIGHTEST: Final = 0.05
_HEAVIEST: Final = 10.0


class ScaleRule(msgspec.Struct, frozen=True, kw_only=True):
    """From `least` to `most` processes, by the number of waiting jobs for each of them.

    Above `up_above` there are to be more, below `down_below` fewer. It has to be calm for `calm_s`
    before the first one goes, and for `step_s` before each further one.
    """

    least: int
    most: int
    up_above: float = 10.0
    down_below: float = 2.0
    calm_s: float = 10.0
    step_s: float = 2.0


class Backlog(msgspec.Struct, frozen=True):
    """What waits: how many jobs, and how long a job of late took (None: nobody knows).

    `held_back` wait as well, but for what no further process brings. At most `startable` of those that are
    `waiting` could start at once, were there processes; `idle` ones have room for them and have nothing.
    """

    waiting: int
    mean_s: float | None = None
    held_back: int = 0
    startable: float = math.inf
    idle: int = 0

    @property
    def load(self) -> float:
        """The waiting jobs, weighed by their length."""
        if self.mean_s is None:
            return float(self.waiting)
        return self.waiting * min(max(self.mean_s / USUAL_JOB_S, _LIGHTEST), _HEAVIEST)


def wanted(rule: ScaleRule, backlog: Backlog, *, processes: int) -> int:
    """Return how many processes this backlog wants where there are so many, whatever was before."""
    return min(max(_useful(rule, backlog, processes), rule.least), rule.most)


def _useful(rule: ScaleRule, backlog: Backlog, processes: int) -> int:
    """Return how many the load wants, no more than would have something to do."""
    busy = max(0, processes - backlog.idle)
    wished = _wished(rule, backlog.load, processes)
    if backlog.held_back:
        # What is held back is let through bit by bit: who is busy with it stays.
        wished = max(wished, busy)
    return wished if backlog.startable == math.inf else min(wished, busy + math.ceil(backlog.startable))


def _wished(rule: ScaleRule, load: float, processes: int) -> int:
    if load > rule.up_above * processes:
        return max(processes, math.ceil(load / rule.up_above))
    return math.ceil(load / rule.down_below) if load < rule.down_below * processes else processes


class Governor:
    """Decides step by step, so that a burst does not make the number go up and down."""

    def __init__(self, rule: ScaleRule) -> None:
        self._rule = rule
        self._down_at: float | None = None

    def decide(self, backlog: Backlog, *, processes: int, now: float) -> int:
        """Return how many processes there should be from now on."""
        rule = self._rule
        target = wanted(rule, backlog, processes=processes)
        if target >= processes:
            self._down_at = None
            return target
        if self._down_at is None:
            self._down_at = now + rule.calm_s
        if now < self._down_at:
            return processes
        self._down_at = now + rule.step_s
        return processes - 1
