"""The engine calls that a running attempt waits for: each is repeated until it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.job import Enqueued, NewJob
from cicely.core.outcome import Step
from cicely.engines.contract import Grant
from cicely.worker.desk import Verbs, insist

STEPS_PAGE: Final = 200


class Calls:
    """Calls of one session, made by whichever thread runs the attempt."""

    def __init__(self, engine: Verbs, session_id: str) -> None:
        self._engine = engine
        self._session_id = session_id

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        """Enqueue what a running job adds."""
        return insist(lambda: self._engine.enqueue(jobs, edges))

    def acquire(self, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        """Take some of limits for a claim. Raises SessionClosed where it no longer holds."""
        return insist(lambda: self._engine.acquire(self._session_id, token, request, uses))

    def release(self, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        """Give back what was acquired."""
        insist(lambda: self._engine.release(self._session_id, token, request, spent))

    def steps(self, job_id: str) -> list[Step]:
        """Return all the recorded steps of a job."""
        steps: list[Step] = []
        while True:
            after = len(steps)
            steps += insist(partial(self._engine.steps, job_id, after=after, limit=STEPS_PAGE))
            if len(steps) < after + STEPS_PAGE:
                return steps
