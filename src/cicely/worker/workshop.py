"""What the slots and the loop of a child share, and what an attempt reaches through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.job import Claim, Enqueued, NewJob
from cicely.core.outcome import Outcome, Step
from cicely.core.task import Task
from cicely.engines.contract import Grant, Save
from cicely.errors import Cancelled, SessionClosed
from cicely.worker import durable
from cicely.worker.attempt import Values
from cicely.worker.board import Board
from cicely.worker.context import Context, encoded_progress
from cicely.worker.exchange import Exchange
from cicely.worker.processes import boottime


class Isolation(Protocol):
    """Runs an attempt in a process of its own."""

    def run(
        self,
        claim: Claim,
        task: Task,
        slot: int,
        *,
        is_ending: Callable[[], bool],
    ) -> Outcome:
        """Run it, watched on the board's `slot`, and return when its whole tree is gone.

        `is_ending`: it was asked to end, maybe before there was anybody who could hear.
        """

    def interrupt(self, token: bytes) -> None:
        """Ask the attempt of this claim to end, if it runs."""


class App(durable.App, Protocol):
    """What a child needs to know of the user's app."""

    def resolve(self, task_name: str) -> Task | None:
        """Return the task of this name, or None."""


class Workshop(msgspec.Struct, frozen=True):
    """What all slots of a child share."""

    app: App
    values: Values
    exchange: Exchange
    board: Board
    isolation: Isolation
    #: An eventfd: written to when an attempt with a soft timeout starts.
    soft_bell: int


class ChildLink:
    """The way from an attempt in this process to its board and its engine."""

    def __init__(self, shop: Workshop, slot: int, claim: Claim, drop: Callable[[], None]) -> None:
        self._shop = shop
        self._slot = slot
        self._claim = claim
        self._drop = drop

    def touch(self) -> None:
        """Note a sign of life."""
        self._shop.board.touch(self._slot, boottime())

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Have the newest progress saved soon."""
        self._shop.exchange.report(self._claim.token, encoded_progress(done, total, message))

    def checkpoint(self, state: object) -> None:
        """Save `state` durably. Raises Cancelled when the claim no longer holds."""
        where = f"the checkpoint of {self._claim.task}"
        data = self._shop.values.pack(self._claim.job_id, state, where=where)
        self._keep(Save(self._claim.token, checkpoint=data))

    def steps(self) -> list[Step]:
        """Return the recorded steps."""
        return self._shop.exchange.calls.steps(self._claim.job_id)

    def record(self, step: Step) -> None:
        """Record a step durably. Raises Cancelled when the claim no longer holds."""
        self._keep(Save(self._claim.token, steps=(step,)))

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        """Enqueue what the job adds."""
        return self._shop.exchange.calls.enqueue(jobs, edges)

    def acquire(self, request: bytes, uses: Sequence[Use]) -> Grant:
        """Take some of limits. Raises Cancelled when the claim no longer holds."""
        try:
            return self._shop.exchange.calls.acquire(self._claim.token, request, uses)
        except SessionClosed:
            self._drop()
            raise Cancelled("this attempt's claim was lost") from None

    def release(self, request: bytes, spent: Mapping[str, float]) -> None:
        """Give back what was acquired."""
        self._shop.exchange.calls.release(self._claim.token, request, spent)

    def _keep(self, save: Save) -> None:
        if not self._shop.exchange.keep(save):
            self._drop()
            raise Cancelled("this attempt's claim was lost")


def context_of(shop: Workshop, claim: Claim, slot: int, drop: Callable[[], None]) -> Context:
    """Return the context of an attempt in this process."""
    link = ChildLink(shop, slot, claim, drop)
    restored = None
    if claim.checkpoint is not None:
        restored = shop.values.unpack(claim.job_id, claim.checkpoint)
    return Context(claim, link, values=shop.values, app=shop.app, restored=restored)
