"""What every engine promises: the verbs, the records they speak in, and the rules of repetition.

One verb is one transaction. Times are the engine's own clock; durations are seconds; no caller
sends "now". Every verb may raise `EngineUnavailable` and may then be called again as it was: an
enqueue is known by its job ids, a claim by its request, an outcome by its token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from cicely.core.breaker import BreakerRule
from cicely.core.edge import Edge, ParentEnd
from cicely.core.event import EventFilter, EventPage
from cicely.core.flow import Use
from cicely.core.job import Claim, Enqueued, Filter, Job, Kind, NewJob, Page
from cicely.core.lanes import LaneWeight
from cicely.core.limits import Gauge, Limit
from cicely.core.outcome import Outcome, Step
from cicely.core.reservations import Reservation
from cicely.core.resources import Amounts, Wants
from cicely.core.rollup import Count, RollupPage
from cicely.core.states import State

#: A non-final outcome is remembered for so many leases, so that repeating it is answered `already`.
RECEIPT_LEASES: Final = 10

#: An event that nobody waits for is kept so long, and the id of one that was taken as well.
KEEP_EVENT_S: Final = 30 * 86_400.0

#: Schedules whose name begins so are marks: cursors that upkeep keeps. They are never due, and no event.
MARK: Final = "*"

#: `surroundings` counts and lists up to so many jobs, holders and parents.
SEEN_AHEAD: Final = 1_000
SEEN_HOLDERS: Final = 20
SEEN_PARENTS: Final = 10

#: What is left of a job whose stored row an engine cannot read.
MALFORMED_REASON: Final = "malformed"


class Host(msgspec.Struct, frozen=True):
    """Where a process lives: only processes that agree on all three can judge each other's pids."""

    boot_id: str = ""
    pid_ns: int = 0
    uid: int = -1

    def sees(self, other: Host) -> bool:
        """Return whether a pid noted on `other` can be judged here."""
        return self.boot_id != "" and self == other


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A process that claims jobs, as it registers.

    `worker` is the session id of its supervisor (its own id for a supervisor): cancellations ring
    there. `tasks` are the names it can run; "" stands for plain messages, and a name that ends in
    ".*" for every function below that package. `mark` is the random
    word that its descendants carry in their environment. `offers` are the resources of its worker,
    which all sessions of the worker share and name alike. `accepts`: of jobs with a trait of one of
    these names it takes only those with one of these values.
    """

    id: str
    worker: str
    tasks: frozenset[str] = frozenset()
    lease_s: float = 30.0
    host: Host = Host()
    pid: int = 0
    start_time: int = 0
    mark: str = ""
    name: str = ""
    queues: tuple[str, ...] = ()
    offers: Amounts = {}
    accepts: Mapping[str, tuple[str, ...]] = {}

    @property
    def is_supervisor(self) -> bool:
        """Whether this is a worker itself, which takes no jobs: of it events tell."""
        return self.id == self.worker and not self.tasks

    def runs(self, task: str) -> bool:
        """Return whether this session can run jobs of `task`."""
        if task in self.tasks:
            return True
        packages = (name[:-1] for name in self.tasks if name.endswith(".*"))
        return any(task.startswith(package) for package in packages)


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the engine keeps it: `beat` is the number of its last heartbeat, `held` counts claims."""

    session: Session
    beat: int
    joined_at: float
    beat_at: float
    held: int


class Beat(msgspec.Struct, frozen=True):
    """The answer to one session's heartbeat.

    `alive` is False for an unknown or retired session. `cancelled`: claims that were asked to end.
    `lost`: tokens that the session names and no longer holds.
    """

    session_id: str
    alive: bool
    cancelled: tuple[bytes, ...] = ()
    lost: tuple[bytes, ...] = ()


class Ask(msgspec.Struct, frozen=True):
    """Jobs of some kinds that a session can take.

    `slots` jobs of any task may be taken at once. Beyond them, jobs whose task is a key of `pace`
    (expected seconds per run) may be taken while the sum of their paces stays within `buffer_s`
    and the number of all within `limit`.
    """

    kinds: tuple[Kind, ...]
    slots: int
    pace: Mapping[str, float] = {}
    buffer_s: float = 0.0
    limit: int = 0


class Demand(msgspec.Struct, frozen=True):
    """What a session wants from a claim.

    `request` is 8 random bytes that name this claim: repeating it returns the same claims and
    takes nothing new while any of them is still held. `queues` are tried in their order; a job
    of the second is taken only when the first has none that fits. `visibility_s` gives each claim
    a deadline of its own (messages).
    """

    request: bytes
    queues: tuple[str, ...]
    asks: tuple[Ask, ...]
    visibility_s: float | None = None


class Intake(msgspec.Struct, frozen=True):
    """The answer to a demand: the claims, and in how many seconds the next job is due (or None).

    0.0 also where something is left of what an earlier call set in motion: who asks again carries it on.
    """

    claims: tuple[Claim, ...] = ()
    next_due_in_s: float | None = None


class Verdict(StrEnum):
    """What became of an outcome: recorded now, recorded before, or refused for its token."""

    ACCEPTED = "accepted"
    ALREADY = "already"
    STALE = "stale"


class Settled(msgspec.Struct, frozen=True):
    """The answer to a settle: a verdict per outcome, in order, and the next claims."""

    verdicts: tuple[Verdict, ...]
    intake: Intake = Intake()


class Save(msgspec.Struct, frozen=True):
    """Something a running attempt leaves with the engine; fields that are None stay as they are.

    `visibility_s` moves the claim's own deadline to so many seconds from now. A step whose key is
    recorded already stays as it was.
    """

    token: bytes
    progress: bytes | None = None
    checkpoint: bytes | None = None
    visibility_s: float | None = None
    steps: tuple[Step, ...] = ()


class Silent(msgspec.Struct, frozen=True):
    """A session that a rescuer watched for a whole lease, and the beat that did not change."""

    session_id: str
    beat: int


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be enqueued at instants that follow from `spec`, which engines do not read.

    `last_at` is the last instant that was dealt with, `next_at` the one to come (None: never again).
    """

    name: str
    spec: bytes
    next_at: float | None
    last_at: float | None = None
    paused: bool = False


class Swept(msgspec.Struct, frozen=True):
    """What one sweep did, at the engine's `now`. `more`: another call would find work at once.

    `due` are schedules, not paused, whose `next_at` has come: somebody is to `tick` them. `newest` is
    the cursor behind the last event that `history` would show now.
    """

    promoted: int = 0
    rescued: int = 0
    expired: int = 0
    deleted: int = 0
    next_due_in_s: float | None = None
    more: bool = False
    due: tuple[Schedule, ...] = ()
    now: float = 0.0
    newest: str = ""


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Something that apps keep in the engine for all their processes; engines do not read it."""

    name: str
    value: bytes


Setting = Limit | BreakerRule | LaneWeight | Note


def kind_of(setting: Setting) -> str:
    """Return "limit", "breaker", "lane" or "note"."""
    return str(setting.__struct_config__.tag)


def name_of(setting: Setting) -> str:
    """Return the name that a setting has among those of its kind."""
    match setting:
        case Limit(key=key):
            return key
        case LaneWeight(queue=queue, lane=lane):
            return f"{queue}/{lane}"
        case BreakerRule(name=name) | Note(name=name):
            return name


decode_setting: Final[Callable[[bytes], Setting]] = msgspec.msgpack.Decoder(Setting).decode


class SettingRecord(msgspec.Struct, frozen=True):
    """A setting and, of a limit or breaker, where it stands: its gauge, and how many claims hold it `now`.

    `setting` of a key that was refused or failed and never configured is what guards it by default.
    """

    setting: Setting
    gauge: Gauge = Gauge()
    held: int = 0
    now: float = 0.0


class Grant(msgspec.Struct, frozen=True):
    """The answer to `acquire`: whether it was given, else in how many seconds to ask again.

    `retry_in_s` None: when another holder lets go, which nobody can foretell.
    """

    given: bool
    retry_in_s: float | None = None


class Holder(msgspec.Struct, frozen=True):
    """Who holds some of a limit, or of a worker's resource, since when."""

    job_id: str
    session: str
    since: float
    units: Amounts = {}


class Kept(msgspec.Struct, frozen=True):
    """Room that a worker keeps free for a job which it passed over first at `since`, and what that wants."""

    worker: str
    job_id: str
    since: float
    wants: Wants


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What stands between a job and its start, as the engine sees it at `now`.

    `is_paused` its queue. `ahead`, of a ready job, counts those that go before it in its lane, up to
    1,000; of others it says nothing. `lanes` counts the lanes of its queue that have ready jobs, up to
    1,000; `lane_behind` those of them that are served before its own. `valves`: of each of its keys, in
    order, with up to 20 `holders`. `parents`: up to 10 jobs that it still waits for. `sessions` are all
    open ones; `taken`: by session, what of its worker's resources its jobs use. `reserved`: all that
    workflows have reserved, by worker, then by workflow; what is `used` of that is among the `taken` as
    well. `kept`, of a ready job that draws nothing: by worker, for whom open ones keep free what it wants.
    """

    job: Job
    now: float
    is_paused: bool = False
    is_held: bool = False
    ahead: int = 0
    lanes: int = 0
    lane_behind: int = 0
    valves: tuple[SettingRecord, ...] = ()
    holders: Mapping[str, tuple[Holder, ...]] = {}
    parents: tuple[str, ...] = ()
    sessions: tuple[SessionRecord, ...] = ()
    taken: Mapping[str, tuple[Holder, ...]] = {}
    reserved: tuple[Reservation, ...] = ()
    kept: tuple[Kept, ...] = ()


class QueueRecord(msgspec.Struct, frozen=True):
    """A queue that the engine has seen."""

    name: str
    paused: bool
    counts: Mapping[State, int]


class Facts(msgspec.Struct, frozen=True):
    """What an engine says of itself: for a worker's first lines and for `doctor`."""

    engine: str
    address: str
    version: str
    durability: str
    warnings: tuple[str, ...] = ()


class Bell(Protocol):
    """Something to wait on. A ring is a hint: there may be news, look for yourself."""

    def fileno(self) -> int:
        """Return a descriptor that is readable after a ring; -1 where there is none (poll)."""

    def arm(self) -> None:
        """Say that the owner is about to wait; only armed bells are rung. Look once more then."""

    def disarm(self) -> None:
        """Say that the owner is awake, and forget the rings so far."""

    def close(self) -> None:
        """Let go of it. Idempotent."""


class Engine(Protocol):
    """Durable home of jobs."""

    # --- connection -----------------------------------------------------------------------
    def open(self) -> None:
        """Connect, and create or check the schema. Idempotent; needed after a fork as well."""

    def close(self) -> None:
        """Let go of every connection. Idempotent; claims stay with their sessions."""

    def facts(self) -> Facts:
        """Describe the engine, its place and what an accepted call survives."""

    # --- sessions -------------------------------------------------------------------------
    def join(self, session: Session) -> None:
        """Register a session. Joining again with the same id is the same session.

        Raises SessionClosed for an id that was retired or rescued: it never comes back.
        """

    def beat(self, held: Mapping[str, Collection[bytes]], number: int) -> list[Beat]:
        """Take heartbeat `number` of each session, given the tokens that it holds.

        One whose number is not above the session's last, because it was repeated or overtaken, is
        answered and changes nothing. A claim that two beats of successive numbers do not name is
        handed back, for the reply that carried it was lost; repeating its request in between begins
        that anew. Who beats leaves a number out unless the last beat was answered, and so long ago
        that a claim that was on its way then is known by now, or may not start.
        """

    def retire(self, session_id: str, outcomes: Sequence[Outcome] = ()) -> None:
        """Settle `outcomes`, hand back all else that it holds and close it for ever. Idempotent.

        What is reserved on a worker ends with its last open session, whether that is retired or rescued.
        """

    def sessions(self) -> list[SessionRecord]:
        """Return the sessions that are neither retired nor rescued, oldest first."""

    # --- the life of a job ----------------------------------------------------------------
    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
        """Store all of `jobs` and `edges`, or none.

        A job whose id is known, or whose `unique` key a live job holds, is not stored again: the
        answer names the job that stands for it, in the edges of this call as well. An edge that is
        known, or whose child does not wait and was not stored just now, changes nothing; an edge
        out of a job that has ended is decided at once. Raises JobNotFound for an end of an edge
        that is neither known nor in `jobs`, and BacklogFull where a limit's `backlog` would be
        exceeded by those jobs that are not known.
        """

    def publish(self, workflow: str) -> None:
        """Let the held jobs of a workflow go, those of later calls as well. Idempotent."""

    def claim(self, session_id: str, demand: Demand) -> Intake:
        """Hand out ready jobs to a session, each to it alone. Raises SessionClosed.

        Due jobs are promoted first; jobs past their `expires` end as expired and are not handed
        out; paused queues are passed over. Within a queue the lane whose clock is behind goes first
        (`core/lanes.py`), within a lane the job of the lowest rank, of those at the head of their
        stream (`core/flow.py`) that may pass: whose valves are open, whose resources are free on
        the session's worker, whose traits it accepts. A claim takes what it passes in the
        same transaction, and whatever ends or takes back the claim gives it back.

        A job whose workflow has reserved enough of what it wants (`core/reservations.py`) is given that,
        on that worker only, and gives it back to the reservation; for others it is taken. Whether a job
        draws so is decided when it becomes ready, and for ready ones when something is reserved: then
        it stands in a stream of its workflow (`Needs.draws`), shuns no worker, is not waited for
        where it finds no room, and does not wait for those that are.
        """

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        """Record how attempts ended, then claim for `demand`, in one transaction.

        Outcomes are judged by their tokens, also for a retired session (then as stale, since its
        claims were handed back); only a demand raises SessionClosed. What an outcome frees and keeps of
        its worker (`core/reservations.py`) is done before its job ends. A job that ends decides the
        edges out of it. Where more than 256 jobs are touched, the rest is written down in the same
        transaction and carried out in pages by sweeps.
        """

    # --- running jobs ---------------------------------------------------------------------
    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        """Keep progress, checkpoints and deadlines; False where the token no longer holds."""

    # --- upkeep ---------------------------------------------------------------------------
    def sweep(self, batch: int, silent: Sequence[Silent] = ()) -> Swept:
        """Carry out at most `batch` steps of each duty; any worker may call it at any time.

        Duties: promote due jobs, expire, take back messages past their deadline, rescue `silent`
        sessions (only those whose beat is still the one seen), end the reservations of workflows of
        which no job is live, carry on with what an end or a
        publication set in motion, delete what is past its retention: the jobs of a workflow all
        together, within an hour after the last of them is, and those of a workflow that was not
        published within a day.
        """

    # --- waking up ------------------------------------------------------------------------
    def doorbell(self, session_id: str) -> Bell:
        """Return the session's bell, rung for new work and for cancellations of its children."""

    def result_bell(self, job_ids: Collection[str]) -> Bell:
        """Return a bell that is rung when one of the jobs ends."""

    # --- reading --------------------------------------------------------------------------
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return each job in full, or None where it is unknown."""

    def find(self, where: Filter, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Return one page of the jobs that match, newest first."""

    def queues(self) -> list[QueueRecord]:
        """Return every queue that has or had jobs, by name, with its count per state."""

    def parents(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[ParentEnd]:
        """Return how the parents of a job stand, in the order of its edges, without the first `after`."""

    def steps(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[Step]:
        """Return the recorded steps of a job, oldest first, without the first `after`."""

    # --- steering -------------------------------------------------------------------------
    def steer(self, move: str, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
        """Move jobs on a person's behalf: `cancel`, `revive` or `discard`. Returns those moved.

        Cancelling a running job marks it and rings its worker. Revive resets the tallies and what
        was recorded as an end, not the steps; what was cancelled because of the job waits for it
        again, and what came after its end by `failure` or `done` will run again. The job itself
        waits for what comes before it and is back by that, else for nothing. A job whose
        `unique` key another live job holds, or whose own edges are broken, stays as it is, and so
        does, for `discard`, a job before one that has not ended.
        """

    def pause(self, queue: str) -> None:
        """Hand out no more jobs of `queue`; running ones go on."""

    def resume(self, queue: str) -> None:
        """Hand out the jobs of `queue` again."""

    def signal(self, event_id: str, name: str, key: str, value: bytes) -> str:
        """Tell the oldest job that waits for the event `name` of `key`, and return its id.

        Where none waits, the event is kept for the next that does, and "" is returned. Each event
        is taken once; one whose id is known changes nothing.
        """

    # --- flow control ---------------------------------------------------------------------
    def configure(self, settings: Sequence[Setting]) -> None:
        """Keep settings, each in place of the one of its kind and name. Gauges and holders stay.

        What a lower limit no longer allows goes on to its end; nothing more starts until it fits.
        """

    def unset(self, kind: str, name: str) -> bool:
        """Forget the "limit", "breaker", "note" or "lane" (named queue/lane); return whether it was known."""

    def settings(self, kind: str) -> list[SettingRecord]:
        """Return the settings of a kind, by name; limits and breakers with where they stand."""

    def turn(self, breaker: str, move: str) -> bool:
        """`trip` or `reset` `breaker`; return whether that changed anything.

        A tripped breaker stays open until it is reset.
        """

    def acquire(self, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        """Take some of the limits for a running claim, all or none; `request` is 8 random bytes.

        Repeating the request of something held is answered as given. It is held until it is
        released or the claim ends. Raises SessionClosed where the token does not hold.
        """

    def release(self, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        """Give back what `request` acquired, and correct its cost by what was `spent`. Idempotent."""

    def surroundings(self, job_id: str) -> Surroundings | None:
        """Return what stands between a job and its start; None for an unknown one."""

    # --- schedules ------------------------------------------------------------------------
    def schedules(self) -> list[Schedule]:
        """Return every schedule, by name."""

    def put_schedule(self, schedule: Schedule) -> None:
        """Keep a schedule under its name, in place of the one before."""

    def drop_schedule(self, name: str) -> bool:
        """Forget a schedule; return whether it was known."""

    def tick(
        self, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count] = ()
    ) -> bool:
        """Put `then` in place of `seen`, enqueue `jobs` and add `counts`, all or nothing.

        False, and nothing done, unless the stored schedule equals `seen`: somebody was faster.
        """

    # --- the past -------------------------------------------------------------------------
    def report(self, counts: Sequence[Count]) -> None:
        """Add what a worker saw to the minutes in which it did. Repeating it adds again."""

    def rollups(self, since_minute: int, until_minute: int, *, limit: int = 1_000) -> RollupPage:
        """Return what was counted from minute `since_minute` to before `until_minute`, oldest first.

        Minutes are given whole, at least one, with about `limit` cells in all. What a call counts (see
        core/rollup.py: each job that is stored, each end, each attempt after which a job goes on) is
        written in its transaction, into the minute of the engine's clock. Kept 30 days.
        """

    def history(self, where: EventFilter, *, limit: int = 100, cursor: str | None = None) -> EventPage:
        """Return one page of the events that match, oldest first, from behind `cursor` (None: all).

        Events are written in the transaction of what they tell (core/event.py says which are). None
        ever appears before one that was shown: who resumes from a cursor sees each once. Those of one
        call come in any order. Kept 30 days, the last 1,000,000; a cursor before them goes on with the
        oldest. `NEWEST` as a cursor returns no event, and the cursor behind the last.
        """

    # --- blobs ----------------------------------------------------------------------------
    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        """Keep bytes that are too large for a job's row; written before the row that names them."""

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        """Return what `put_blob` kept, or None. Blobs go with their job, orphans after 7 days."""
