"""The handle of a workflow: all jobs of one chain, group, chord or flow. `app.workflow(id)` finds it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from cicely.connection import Connection
from cicely.core.edge import ParentEnd, Role
from cicely.core.job import Filter
from cicely.core.job import Job as Record
from cicely.core.states import State
from cicely.core.units import Duration, duration_s
from cicely.errors import JobNotFound
from cicely.groups import GroupJob, found_by, records_of, revive_all, steer_all
from cicely.handles import Job
from cicely.waiting import ends_in_order, refuse_inside_a_job
from cicely.workflow.outline import end_label
from cicely.workflow.progress import WorkflowProgress, progress_of


class Workflow:
    """All jobs of one workflow. Everything but `id` asks the engine anew."""

    __slots__ = ("_connection", "id")

    def __init__(self, connection: Connection, workflow_id: str) -> None:
        self._connection = connection
        self.id = workflow_id

    def __repr__(self) -> str:
        """Name the workflow."""
        return f"Workflow({self.id!r})"

    @property
    def jobs(self) -> list[Job[Any]]:
        """The handles of all its jobs, in the order in which they were enqueued."""
        return [Job(self._connection, record.id) for record in reversed(list(self._records()))]

    @property
    def progress(self) -> WorkflowProgress:
        """How many of its jobs have ended, of how many, and how many are in each state.

        Counts the jobs of workflows that its jobs called or went on as; so the total may grow.
        """
        return progress_of(record.state for record in self._all_records())

    def get(self, timeout: Duration | None = None, *, allow_blocking: bool = False) -> Any:
        """Wait for its result and return it: the last job's, or the list of those it ends with.

        Raises as `Job.get` does. It looks at these jobs alone: of a flow, the handle that `delay` returned
        also raises a failure behind which a finaliser succeeded.
        """
        return self._result().get(timeout, allow_blocking=allow_blocking)

    async def aget(self, timeout: Duration | None = None, *, allow_blocking: bool = False) -> Any:
        """As `get`, for coroutines."""
        import asyncio

        result = await asyncio.to_thread(self._result)
        return await result.aget(timeout, allow_blocking=allow_blocking)

    def wait(self, timeout: Duration | None = None, *, allow_blocking: bool = False) -> WorkflowProgress:
        """Wait until every job that `progress` counts has ended, also those beside the result.

        Raises TimeoutError.
        """
        if not allow_blocking:
            refuse_inside_a_job(self.id)
        timeout_s = None if timeout is None else duration_s(timeout, name="timeout")
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        ended: dict[str, State] = {}
        while ids := [record.id for record in self._all_records() if record.id not in ended]:
            left_s = None if give_up_at is None else max(0.0, give_up_at - time.monotonic())
            for record in ends_in_order(self._connection, ids, timeout_s=left_s):
                ended[record.id] = record.state
        return progress_of(ended.values())

    def cancel(self, reason: str = "") -> int:
        """Cancel all that has not ended; return how many jobs were."""
        # The last first, so that none is let go by the end of one before it.
        ids = [record.id for record in self._records() if not record.state.is_final]
        return steer_all(self._connection, "cancel", ids, reason=reason)

    def revive(self) -> int:
        """Go on from what failed, expired or was cancelled; return how many jobs come back.

        What succeeded is not repeated.
        """
        return revive_all(self._connection, self._records())

    def _result(self) -> Job[Any] | GroupJob[Any]:
        ends = [record.id for record in found_by(self._connection, Filter(group=end_label(self.id)))]
        if ends:
            return Job(self._connection, ends[0])
        group: GroupJob[Any] = GroupJob(self._connection, self.id)
        if not len(group):
            raise JobNotFound(
                f"no job with the result of workflow {self.id} is known: it was swept after its "
                "retention, or another job stands for it by its unique key"
            )
        return group

    def _records(self) -> Iterator[Record]:
        return found_by(self._connection, Filter(workflow=self.id))

    def _all_records(self) -> Iterator[Record]:
        """Yield its jobs, and those of the workflows that they called or went on as."""
        seen = {self.id}
        waiting = [self.id]
        while waiting:
            for record in found_by(self._connection, Filter(workflow=waiting.pop())):
                yield record
                called = self._called_by(record) - seen
                seen |= called
                waiting += called

    def _called_by(self, record: Record) -> set[str]:
        """Return the workflows that a job called or went on as."""
        # Most jobs are claimed once: only one that let go of its slot waits after a claim, or has two.
        if record.fence < (1 if record.state is State.WAITING else 2):
            return set()
        called = [end.id for end in self._parents_of(record.id) if end.role is Role.CALL]
        return {one.workflow for one in records_of(self._connection, called) if one.workflow}

    def _parents_of(self, job_id: str) -> Iterator[ParentEnd]:
        after = 0
        while page := self._parents_page(job_id, after):
            yield from page
            after += len(page)

    def _parents_page(self, job_id: str, after: int) -> list[ParentEnd]:
        return self._connection.call(lambda engine: engine.parents(job_id, after=after))


def workflow_of(connection: Connection, an_id: str) -> Workflow:
    """Return the workflow of that id, or of the job of that id. Raises JobNotFound."""
    [record] = connection.call(lambda engine: engine.get([an_id]))
    if record is not None and record.workflow:
        return Workflow(connection, record.workflow)
    if record is not None:
        raise JobNotFound(f"job {an_id} ({record.task}) is in no workflow: it was enqueued alone")
    if next(found_by(connection, Filter(workflow=an_id)), None) is None:
        raise JobNotFound(f"no job is in the workflow {an_id}: it was swept, or never enqueued")
    return Workflow(connection, an_id)
