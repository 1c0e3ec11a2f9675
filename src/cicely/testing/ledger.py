"""The ledger: what really ran, written down outside Cicely, and the judgement of it.

Each attempt appends its start and its end to one file and holds a lock on a file named by its job,
which its descendants inherit. Fencing alone would call five parallel runs of a job a success, since
only one of them is accepted; the ledger does not.

A place has room for some attempts at once, and a lock for each. The kernel lets a dead process's locks
go, so what it holds is not counted from that instant on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from cicely.core.job import Job, Kind
from cicely.core.states import State
from cicely.worker.processes import boottime

_START: Final = "start"
_END: Final = "end"
_OVERLAP: Final = "overlap"
_ENTERED: Final = "entered"
_LEFT: Final = "left"
_BEYOND: Final = "beyond"


class Line(msgspec.Struct, frozen=True):
    """One line of the ledger; `at` is CLOCK_BOOTTIME, `place` the one that was entered or left."""

    what: str
    job_id: str
    fence: int
    pid: int
    at: float
    place: str = ""


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

    @contextlib.contextmanager
    def inside(self, place: str, most: int, *, attempt: tuple[str, int]) -> Iterator[None]:
        """Write down that an attempt (job id and fence) is in a place which has room for `most` at once.

        One more than that is written down as beyond it, and let in.
        """
        lock = self._lock_in(place, most)
        self._append(_BEYOND if lock is None else _ENTERED, *attempt, place)
        try:
            yield
        finally:
            self._append(_LEFT, *attempt, place)
            if lock is not None:
                # Whoever was forked meanwhile has a copy, and does not keep the lock.
                fcntl.flock(lock, fcntl.LOCK_UN)
                os.close(lock)

    def _lock_in(self, place: str, most: int) -> int | None:
        """Return the first free lock of a place, None where there is none.

        Each looks from the first one on, so that one pass finds a free one if there is any.
        """
        for number in range(most):
            file = self._locks / f"{quote(place, safe='')}.{number}"
            lock = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return lock
        return None

    def _append(self, what: str, job_id: str, fence: int, place: str = "") -> None:
        line = msgspec.json.encode(Line(what, job_id, fence, os.getpid(), boottime(), place))
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


class Crowd(msgspec.Struct, frozen=True):
    """How full a place was: how often it was entered, by how many at once, and how often beyond its room."""

    entered: int
    most: int
    beyond: int


def crowds(lines: Iterable[Line]) -> dict[str, Crowd]:
    """Return how full each place was. Of those that died inside, the locks tell; they are not in `most`."""
    by_place: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.place:
            by_place[line.place].append(line)
    return {
        place: Crowd(
            entered=sum(line.what != _LEFT for line in found),
            most=_most_at_once(found),
            beyond=sum(line.what == _BEYOND for line in found),
        )
        for place, found in by_place.items()
    }


def _most_at_once(lines: Iterable[Line]) -> int:
    came: dict[tuple[str, int], float] = {}
    moves: list[tuple[float, int]] = []
    for line in lines:
        attempt = line.job_id, line.fence
        if line.what != _LEFT:
            came[attempt] = line.at
        elif attempt in came:
            moves += [(came.pop(attempt), 1), (line.at, -1)]
    # Who left at the instant at which another came was out first.
    return max(accumulate(move for _, move in sorted(moves)), default=0)


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
