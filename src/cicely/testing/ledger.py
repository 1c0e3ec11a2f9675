"""The ledger: what really ran, written down outside Cicely, and the judgement of it.

Each attempt appends its start and its end to one file and holds a lock on a file named by its job,
which its descendants inherit. Fencing alone would call five parallel runs of a job a success, since
only one of them is accepted; the ledger does not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from cicely.core.job import Job, Kind
from cicely.core.states import State
from cicely.worker.processes import boottime

_START: Final = "start"
_END: Final = "end"
_OVERLAP: Final = "overlap"


class Line(msgspec.Struct, frozen=True):
    """One line of the ledger; `at` is CLOCK_BOOTTIME."""

    what: str
    job_id: str
    fence: int
    pid: int
    at: float


class Ledger:
    """A folder with the lines and the locks. Safe to use from any number of processes."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._locks = self.folder / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        self._lines = self.folder / "ledger"

    @contextlib.contextmanager
    def attempt(self, job_id: str, fence: int) -> Iterator[None]:
        """Write down one attempt; an attempt that is killed leaves a start without an end."""
        lock = os.open(self._locks / job_id, os.O_CREAT | os.O_RDWR, 0o600)
        os.set_inheritable(lock, True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._append(_OVERLAP, job_id, fence)
        try:
            self._append(_START, job_id, fence)
            yield
            self._append(_END, job_id, fence)
        finally:
            os.close(lock)

    def _append(self, what: str, job_id: str, fence: int) -> None:
        line = msgspec.json.encode(Line(what, job_id, fence, os.getpid(), boottime()))
        file = os.open(self._lines, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            # One write, so that lines of different processes never mix. It may be torn by a kill:
            # the next line then begins anew.
            os.write(file, b"\n" + line + b"\n")
        finally:
            os.close(file)

    def lines(self) -> list[Line]:
        """Return what was written, in the order in which it was written."""
        if not self._lines.exists():
            return []
        written = map(_line_of, self._lines.read_bytes().splitlines())
        return [line for line in written if line is not None]


def _line_of(written: bytes) -> Line | None:
    """Return a line, or None for the gaps and for what a kill has torn."""
    try:
        return msgspec.json.decode(written, type=Line)
    except msgspec.DecodeError:
        return None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger and the engine say together. All but the first four should be zero.

    `re_runs` counts starts beyond a job's first; with no fault injected they are `idle_re_runs`.
    """

    attempted: int
    acknowledged: int
    started: int
    re_runs: int
    lost: int = 0
    accepted_twice: int = 0
    overlapped: int = 0
    run_again_after_accepted_end: int = 0
    started_twice_under_one_fence: int = 0
    #: Jobs that the engine calls succeeded, and that never wrote down an end.
    never_ended: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, doubled or overlapped."""
        return not (
            self.lost
            or self.accepted_twice
            or self.overlapped
            or self.run_again_after_accepted_end
            or self.started_twice_under_one_fence
            or self.never_ended
        )


def judge(
    ledger: Ledger,
    *,
    attempted: int,
    acknowledged: Iterable[str],
    jobs: Mapping[str, Job | None],
) -> Judgement:
    """Compare what ran with what the engine accepted, after everything has come to rest.

    `acknowledged` are the ids whose enqueue was answered; `jobs` is the engine's record of each.
    """
    lines = ledger.lines()
    ids = list(acknowledged)
    starts = Counter(line.job_id for line in lines if line.what == _START)
    ended = {line.job_id for line in lines if line.what == _END}
    by_fence = Counter((line.job_id, line.fence) for line in lines if line.what == _START)
    return Judgement(
        attempted=attempted,
        acknowledged=len(ids),
        started=sum(starts.values()),
        re_runs=sum(count - 1 for count in starts.values()),
        lost=sum(1 for job_id in ids if not _is_at_rest(jobs.get(job_id))),
        accepted_twice=sum(1 for job_id in ids if _times_accepted(jobs.get(job_id)) > 1),
        overlapped=sum(1 for line in lines if line.what == _OVERLAP),
        run_again_after_accepted_end=_run_again(lines, jobs),
        started_twice_under_one_fence=sum(1 for count in by_fence.values() if count > 1),
        never_ended=sum(1 for job_id in ids if job_id not in ended and _has_run(jobs.get(job_id))),
    )


def _is_at_rest(job: Job | None) -> bool:
    return job is not None and job.state.is_final


def _has_run(job: Job | None) -> bool:
    return job is not None and job.state is State.SUCCEEDED and job.kind is not Kind.MESSAGE


def _times_accepted(job: Job | None) -> int:
    if job is None:
        return 0
    return sum(1 for attempt in job.attempts if attempt.reason == State.SUCCEEDED)


def _run_again(lines: Iterable[Line], jobs: Mapping[str, Job | None]) -> int:
    accepted = {
        job_id: {attempt.fence for attempt in job.attempts if attempt.reason == State.SUCCEEDED}
        for job_id, job in jobs.items()
        if job is not None
    }
    over: dict[str, bool] = defaultdict(bool)
    again = 0
    for line in lines:
        if line.what == _START and over[line.job_id]:
            again += 1
        if line.what == _END and line.fence in accepted.get(line.job_id, ()):
            over[line.job_id] = True
    return again
