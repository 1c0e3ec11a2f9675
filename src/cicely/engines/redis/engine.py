"""The Redis engine: each verb is one script on one server.

The verbs read top to bottom as in the contract; what they send and read lies beside this file, by duty.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from cicely.core.edge import Edge, ParentEnd
from cicely.core.event import EventFilter, EventPage
from cicely.core.failpoints import failpoint
from cicely.core.flow import Use
from cicely.core.job import Enqueued, Filter, Job, NewJob, Page
from cicely.core.outcome import CANCELLED, Outcome, Step
from cicely.core.rollup import Count, RollupPage
from cicely.engines.checks import Check
from cicely.engines.contract import (
    Beat,
    Demand,
    Facts,
    Grant,
    Intake,
    QueueRecord,
    Save,
    Schedule,
    Session,
    SessionRecord,
    Setting,
    SettingRecord,
    Settled,
    Silent,
    Surroundings,
    Swept,
)
from cicely.engines.redis import (
    blobs,
    checkup,
    chronicle,
    claiming,
    controls,
    enqueueing,
    reading,
    sessions,
    sweeping,
    ticking,
)
from cicely.engines.redis.bells import Bells, RedisBell
from cicely.engines.redis.connections import Connections
from cicely.engines.redis.keys import quoted
from cicely.engines.redis.line import Line, Reply, Word
from cicely.engines.redis.place import Place, Target
from cicely.engines.redis.scripts import script
from cicely.engines.redis.server import Server, examined

#: Verbs that accept nothing and may be lost with the power.
_FLEETING: Final = frozenset(
    {
        "arm",
        "beat",
        "disarm",
        "find",
        "get",
        "get_blob",
        "history",
        "parents",
        "queues",
        "report",
        "rollups",
        "schedules",
        "sessions",
        "settings",
        "steps",
        "surroundings",
        "sweep",
    }
)


class RedisEngine:
    """Jobs in one namespace of a Redis server, shared by every process that connects to it.

    `now` replaces the server's clock, for tests.
    """

    def __init__(self, place: Place, *, now: Callable[[], float] | None = None) -> None:
        self._place = place
        self._now = now
        self._opening = threading.Lock()
        self._home: _Home | None = None
        self._pid = os.getpid()

    # --- connection -----------------------------------------------------------------------
    def open(self) -> None:
        self._opened()

    def close(self) -> None:
        home, self._home = self._home, None
        if home is not None and home.pid == os.getpid():
            home.close()

    def facts(self) -> Facts:
        server = self._opened().server
        return Facts(
            engine="redis",
            address=self._place.address,
            version=server.version,
            durability=server.durability,
            warnings=server.warnings,
        )

    def checks(self) -> list[Check]:
        return self._opened().checks()

    def _opened(self) -> _Home:
        home = self._home
        if home is not None and home.pid == os.getpid():
            return home
        if self._pid != os.getpid():
            # A thread of the parent may have held it at the fork.
            self._opening = threading.Lock()
            self._pid = os.getpid()
        with self._opening:
            if self._home is None or self._home.pid != os.getpid():
                self._home = _Home(self._place, self._now)
            return self._home

    def _run(self, verb: str, *arguments: Word) -> Reply:
        return self._opened().run(verb, *arguments)

    # --- sessions -------------------------------------------------------------------------
    def join(self, session: Session) -> None:
        sessions.join(self._run, session)

    def beat(self, held: Mapping[str, Collection[bytes]], number: int) -> list[Beat]:
        return sessions.beat(self._run, held, number)

    def retire(self, session_id: str, outcomes: Sequence[Outcome] = ()) -> None:
        sessions.retire(self._run, session_id, outcomes)

    def sessions(self) -> list[SessionRecord]:
        return sessions.sessions(self._run)

    # --- the life of a job ----------------------------------------------------------------
    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
        return enqueueing.enqueue(self._run, jobs, edges) if jobs or edges else []

    def publish(self, workflow: str) -> None:
        self._run("publish", workflow)

    def claim(self, session_id: str, demand: Demand) -> Intake:
        return claiming.claim(self._run, session_id, demand)

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        return claiming.settle(self._run, session_id, outcomes, demand)

    # --- running jobs ---------------------------------------------------------------------
    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        return claiming.save(self._run, saves)

    # --- upkeep ---------------------------------------------------------------------------
    def sweep(self, batch: int, silent: Sequence[Silent] = ()) -> Swept:
        return sweeping.sweep(self._run, batch, silent, keep_ended=self._place.keep_ended)

    # --- waking up ------------------------------------------------------------------------
    def doorbell(self, session_id: str) -> RedisBell:
        return self._opened().bell(session_id)

    def result_bell(self, job_ids: Collection[str]) -> RedisBell:
        return self._opened().bell("", job_ids)

    # --- reading --------------------------------------------------------------------------
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        return reading.get(self._run, job_ids)

    def find(self, where: Filter, *, limit: int = 100, cursor: str | None = None) -> Page:
        return reading.find(self._run, where, limit, cursor)

    def queues(self) -> list[QueueRecord]:
        return reading.queues(self._run)

    def parents(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[ParentEnd]:
        return reading.parents(self._run, job_id, after, limit)

    def steps(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[Step]:
        return reading.steps(self._run, job_id, after, limit)

    # --- steering -------------------------------------------------------------------------
    def steer(self, move: str, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
        usual = {"cancel": CANCELLED, "revive": "revived", "discard": ""}[move]
        return [job_id.decode() for job_id in self._run("steer", move, reason or usual, *job_ids)]

    def pause(self, queue: str) -> None:
        self._run("pause", quoted(queue))

    def resume(self, queue: str) -> None:
        self._run("resume", quoted(queue))

    def signal(self, event_id: str, name: str, key: str, value: bytes) -> str:
        return str(self._run("signal", event_id, name, key, value).decode())

    # --- flow control ---------------------------------------------------------------------
    def configure(self, settings: Sequence[Setting]) -> None:
        if settings:
            controls.configure(self._run, settings)

    def unset(self, kind: str, name: str) -> bool:
        return bool(self._run("unset", kind, quoted(name)))

    def settings(self, kind: str) -> list[SettingRecord]:
        return controls.settings(self._run, kind)

    def turn(self, breaker: str, move: str) -> bool:
        return bool(self._run("turn", quoted(breaker), move))

    def acquire(self, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        return controls.acquire(self._run, session_id, token, request, uses)

    def release(self, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        controls.release(self._run, token, request, spent)

    def surroundings(self, job_id: str) -> Surroundings | None:
        return controls.surroundings(self._run, job_id)

    # --- schedules ------------------------------------------------------------------------
    def schedules(self) -> list[Schedule]:
        return ticking.schedules(self._run)

    def put_schedule(self, schedule: Schedule) -> None:
        ticking.put_schedule(self._run, schedule)

    def drop_schedule(self, name: str) -> bool:
        return ticking.drop_schedule(self._run, name)

    def tick(
        self, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count] = ()
    ) -> bool:
        return ticking.tick(self._run, seen, then, jobs, counts)

    # --- the past -------------------------------------------------------------------------
    def report(self, counts: Sequence[Count]) -> None:
        if counts:
            chronicle.report(self._run, counts)

    def rollups(self, since_minute: int, until_minute: int, *, limit: int = 1_000) -> RollupPage:
        return chronicle.rollups(self._run, since_minute, until_minute, limit)

    def history(self, where: EventFilter, *, limit: int = 100, cursor: str | None = None) -> EventPage:
        return chronicle.history(self._run, where, limit, cursor)

    # --- blobs ----------------------------------------------------------------------------
    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        blobs.put_blob(self._run, job_id, digest, data)

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        return blobs.get_blob(self._run, job_id, digest)


class _Home:
    """What one process has of an engine: its lines, its bells, and what the server said of itself."""

    def __init__(self, place: Place, now: Callable[[], float] | None) -> None:
        self.pid = os.getpid()
        self._now = now
        self._connections = Connections(place)
        self._bells = Bells(self)
        self._channels = f"{{{place.namespace}}}:ear:"
        self._waits = False
        self.server: Server = examined(self._connections)
        self._waits = self.server.waits

    def close(self) -> None:
        """Hang up; bells that are still open are their owners'."""
        self._bells.close()
        self._connections.close()

    def checks(self) -> list[Check]:
        """Examine the server."""
        return checkup.checks(self._connections)

    def run(self, verb: str, *arguments: Word) -> Reply:
        """Run a verb's script."""
        failpoint(f"redis.{verb}.before")
        instant = repr(self._now()) if self._now is not None else b""
        waits = self._waits and verb not in _FLEETING
        reply = self._connections.run(script(verb), (instant, *arguments), waits=waits)
        failpoint(f"redis.{verb}.after")
        if self._bells.are_deaf and verb not in ("arm", "disarm"):
            self._bells.recover()
        return reply

    def bell(self, session_id: str, job_ids: Collection[str] = ()) -> RedisBell:
        """Return a bell."""
        return RedisBell(self._bells, self, session_id, job_ids)

    def dialled(self) -> Line:
        """Return a new line."""
        return self._connections.dialled()

    @property
    def target(self) -> Target | None:
        """Which server the jobs are on."""
        return self._connections.target

    def channel(self, ear: str) -> str:
        """Return the channel of an ear."""
        return self._channels + ear
