"""Dead letters: jobs that failed for good, and the groups that failures which are alike make."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cicely.core.fingerprint import fingerprint, pattern
from cicely.core.hook import qualified
from cicely.core.job import Job
from cicely.core.outcome import ErrorRecord
from cicely.core.states import State

#: What is said of a failure that left no record of an error.
NO_ERROR = ErrorRecord("Unknown", "no error was recorded")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One failure of a job: `fence` says of which claim. `reason` is the engine's word for it.

    `error` has type, message and traceback as text; `fingerprint` is the same for failures that are alike.
    """

    job_id: str
    fence: int
    task: str
    queue: str
    reason: str
    error: ErrorRecord
    fingerprint: str
    attempt: int
    failed_at: float
    workflow: str = ""
    tags: tuple[str, ...] = ()


class DeadGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failures that are alike, oldest first. `error` is the type, `message` what they have in common."""

    fingerprint: str
    task: str
    error: str
    message: str
    letters: tuple[DeadLetter, ...]

    @property
    def count(self) -> int:
        """How many jobs are in it."""
        return len(self.letters)

    @property
    def first_at(self) -> float:
        """When the first of them failed."""
        return self.letters[0].failed_at

    @property
    def last_at(self) -> float:
        """When the last of them failed."""
        return self.letters[-1].failed_at

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The jobs in it."""
        return tuple(letter.job_id for letter in self.letters)


def letter_of(job: Job, fence: int | None = None) -> DeadLetter:
    """Return the failure of a job by claim number `fence`, which may long have been revived; None: its last.

    A job that `find` returned tells of its last failure only.
    """
    wanted = job.fence if fence is None else fence
    if job.state is State.FAILED and job.fence == wanted:
        return _letter(job, wanted, job.reason, job.error, attempt=job.attempt, at=job.ended_at)
    for attempt in job.attempts:
        if attempt.fence == wanted:
            number, at = attempt.attempt, attempt.ended_at
            return _letter(job, wanted, attempt.reason, attempt.error, attempt=number, at=at)
    return _letter(job, wanted, "", b"", attempt=0, at=None)


def _letter(job: Job, fence: int, reason: str, error: bytes, *, attempt: int, at: float | None) -> DeadLetter:
    record = ErrorRecord.decoded(error) if error else NO_ERROR
    return DeadLetter(
        job_id=job.id,
        fence=fence,
        task=job.task,
        queue=job.queue,
        reason=reason,
        error=record,
        fingerprint=fingerprint(record, task=job.task),
        attempt=attempt,
        failed_at=at or 0.0,
        workflow=job.workflow,
        tags=job.tags,
    )


def grouped(letters: Iterable[DeadLetter]) -> list[DeadGroup]:
    """Return the groups that letters make, the largest first."""
    by_print: dict[str, list[DeadLetter]] = {}
    for letter in sorted(letters, key=lambda one: (one.failed_at, one.job_id)):
        by_print.setdefault(letter.fingerprint, []).append(letter)
    groups = [
        DeadGroup(
            fingerprint=key,
            task=found[0].task,
            error=qualified(found[0].error),
            message=pattern(found[0].error.message),
            letters=tuple(found),
        )
        for key, found in by_print.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, group.fingerprint))
