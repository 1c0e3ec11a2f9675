"""Events: what happened, kept as history that a reader can resume from a cursor.

Not every move of a job is one: a row per move would halve what an engine can do. Told is what went
wrong or was done by a person, what happened to workers, and successes that took a second or more.
Jobs that are `watched` tell of each start and each success as well. See docs/decisions.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cicely.core.job import DAY_S
from cicely.core.limits import Gauge
from cicely.core.outcome import Again
from cicely.core.rollup import Word, word_of
from cicely.core.states import State

#: Events are kept so long, and at most so many.
KEEP_HISTORY_S: Final = 30 * DAY_S
MAX_HISTORY: Final = 1_000_000

#: A success is told of where its run took so long: no slot can write more than one a second.
LONG_RUN_S: Final = 1.0

#: As a cursor: no event that has happened so far.
NEWEST: Final = "newest"

JOB_STARTED: Final = "job.started"
JOB_SUCCEEDED: Final = "job.succeeded"
JOB_FAILED: Final = "job.failed"
JOB_CANCELLED: Final = "job.cancelled"
JOB_EXPIRED: Final = "job.expired"
JOB_RETRIED: Final = "job.retried"
JOB_CRASHED: Final = "job.crashed"
JOB_LOST: Final = "job.lost"
JOB_REVIVED: Final = "job.revived"
WORKER_JOINED: Final = "worker.joined"
WORKER_LEFT: Final = "worker.left"
WORKER_LOST: Final = "worker.lost"
QUEUE_PAUSED: Final = "queue.paused"
QUEUE_RESUMED: Final = "queue.resumed"
SCHEDULE_SET: Final = "schedule.set"
SCHEDULE_REMOVED: Final = "schedule.removed"
SCHEDULE_PAUSED: Final = "schedule.paused"
SCHEDULE_RESUMED: Final = "schedule.resumed"
BREAKER_OPENED: Final = "breaker.opened"
BREAKER_CLOSED: Final = "breaker.closed"
BREAKER_SET: Final = "breaker.set"
BREAKER_REMOVED: Final = "breaker.removed"
LIMIT_SET: Final = "limit.set"
LIMIT_REMOVED: Final = "limit.removed"
LANE_SET: Final = "lane.set"
LANE_REMOVED: Final = "lane.removed"

KINDS: Final = (
    JOB_STARTED,
    JOB_SUCCEEDED,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_EXPIRED,
    JOB_RETRIED,
    JOB_CRASHED,
    JOB_LOST,
    JOB_REVIVED,
    WORKER_JOINED,
    WORKER_LEFT,
    WORKER_LOST,
    QUEUE_PAUSED,
    QUEUE_RESUMED,
    SCHEDULE_SET,
    SCHEDULE_REMOVED,
    SCHEDULE_PAUSED,
    SCHEDULE_RESUMED,
    BREAKER_OPENED,
    BREAKER_CLOSED,
    BREAKER_SET,
    BREAKER_REMOVED,
    LIMIT_SET,
    LIMIT_REMOVED,
    LANE_SET,
    LANE_REMOVED,
)

_ENDED: Final = {
    State.SUCCEEDED: JOB_SUCCEEDED,
    State.FAILED: JOB_FAILED,
    State.CANCELLED: JOB_CANCELLED,
    State.EXPIRED: JOB_EXPIRED,
}
_WENT_ON: Final = {Word.RETRIED: JOB_RETRIED, Word.CRASHED: JOB_CRASHED, Word.LOST: JOB_LOST}


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Something that happened at the engine's instant `at`.

    Of a job: which, with its labels and counts then, why (`reason`), how long its attempt ran
    (`run_s`, None where it did not run) and in which session (`name`). Else `name` is whom it
    happened to: a worker's session, a queue, a schedule. `cursor` resumes behind it, and is filled
    when it is read.
    """

    kind: str
    at: float
    name: str = ""
    reason: str = ""
    job_id: str = ""
    task: str = ""
    queue: str = ""
    workflow: str = ""
    attempt: int = 0
    fence: int = 0
    run_s: float | None = None
    cursor: str = ""


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a reader wants; an empty field means "any".

    A kind is exact, as "job.failed", or a noun, as "worker". `since` bounds `at`.
    """

    kinds: tuple[str, ...] = ()
    task: str = ""
    queue: str = ""
    job_id: str = ""
    workflow: str = ""
    since: float | None = None

    def matches(self, event: Event) -> bool:
        """Return whether `event` is one that this filter wants."""
        return (
            (not self.kinds or event.kind in self.kinds or event.kind.partition(".")[0] in self.kinds)
            and (not self.task or event.task == self.task)
            and (not self.queue or event.queue == self.queue)
            and (not self.job_id or event.job_id == self.job_id)
            and (not self.workflow or event.workflow == self.workflow)
            and (self.since is None or event.at >= self.since)
        )


class EventPage(msgspec.Struct, frozen=True):
    """Some events, oldest first, and the cursor that continues after them and what was passed over.

    A page may hold fewer events than asked for, even none, and yet `more`: an engine looks at a
    bounded number of rows per call.
    """

    events: tuple[Event, ...]
    cursor: str
    more: bool = False


def kind_of_end(state: State, *, run_s: float | None, watched: bool, cause: str) -> str | None:
    """Return what is told of a job's end, None where nothing is.

    An end in consequence of another's (`cause`) is not: the other's end was told.
    """
    if state is State.SUCCEEDED:
        is_told = watched or (run_s is not None and run_s >= LONG_RUN_S)
        return JOB_SUCCEEDED if is_told else None
    if state is State.CANCELLED and cause:
        return None
    return _ENDED[state]


def kind_of_step(step: Again, attempt_reason: str) -> str | None:
    """Return what is told of an attempt after which its job goes on, None where nothing is."""
    word = word_of(step, attempt_reason)
    return _WENT_ON.get(word) if word else None


def kind_of_gauge(was: Gauge, then: Gauge) -> str | None:
    """Return what is told of a breaker whose gauge was replaced, None where nothing is."""
    if then.opened_at and then.opened_at != was.opened_at:
        return BREAKER_OPENED
    return BREAKER_CLOSED if was.opened_at and not then.opened_at else None


def kind_of_setting(kind: str, *, is_there: bool) -> str | None:
    """Return what is told of a limit, breaker or lane that was set or removed; of notes nothing is."""
    told = f"{kind}.{'set' if is_there else 'removed'}"
    return told if told in KINDS else None


def kind_of_pause(*, was_paused: bool, is_paused: bool) -> str | None:
    """Return what is told of a schedule whose record was replaced, None where nothing is."""
    if was_paused == is_paused:
        return None
    return SCHEDULE_PAUSED if is_paused else SCHEDULE_RESUMED
