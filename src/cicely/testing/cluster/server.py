"""The memory engine as a server: with a clock of its own, a network before it, and a ledger beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Final, Protocol, TypeVar

from cicely.core.edge import Fate
from cicely.core.job import NewJob
from cicely.core.outcome import Finish, Outcome
from cicely.core.states import State
from cicely.engines.contract import Demand, Verdict
from cicely.engines.memory import MemoryBell, MemoryEngine, Row
from cicely.errors import EngineError, EngineUnavailable, SessionClosed
from cicely.testing.clock import START_AT
from cicely.testing.cluster.ledger import Ledger
from cicely.testing.cluster.world import LEASE_S, Act, World

T = TypeVar("T")

#: How long a caller waits for an answer.
PATIENCE_S: Final = 900.0
LATENCY_S: Final = 1.0
LATE_S: Final = 1.5 * LEASE_S


class Bell(MemoryBell):
    """A bell without a pipe: it calls its owner."""

    def __init__(self, watch: list[MemoryBell], owner: str, ring: Act) -> None:
        self.owner = owner
        self.job_ids = frozenset()
        self._watch = watch
        self.is_armed = False
        self._ring = ring
        watch.append(self)

    def fileno(self) -> int:
        """Return a number that only says that there is a bell."""
        return 0

    def disarm(self) -> None:
        """Be rung no more."""
        self.is_armed = False

    def ring(self) -> bool:
        """Ring if armed; return whether the owner was."""
        was_armed, self.is_armed = self.is_armed, False
        if was_armed:
            self._ring()
        return was_armed

    def close(self) -> None:
        """Be rung no more."""
        if self in self._watch:
            self._watch.remove(self)


class Server(MemoryEngine):
    """The memory engine, whose claims and verdicts the ledger hears."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        super().__init__(now=lambda: START_AT + world.now + self.step_s)
        self.step_s = self.furthest_s = 0.0
        self.ledger = ledger
        self.stored: list[NewJob] = []
        #: How jobs ended, also those that are deleted before anybody looks.
        self.ends: dict[str, State] = {}

    def step(self, seconds: float) -> None:
        """Let this clock jump."""
        self.step_s += seconds
        self.furthest_s = max(self.furthest_s, self.step_s)

    def set_right(self) -> None:
        """Let this clock go on from the furthest that it showed: what it promised for then comes now."""
        self.step_s = self.furthest_s

    def bell(self, session_id: str, ring: Act) -> Bell:
        """Return a session's bell, which calls `ring`."""
        return Bell(self._bells, session_id, ring)

    def rows(self) -> Collection[str]:
        """Return the ids of the jobs that are kept in full."""
        return self._rows.keys()

    def _store(self, new: NewJob, *, waits: bool) -> Row:
        self.stored.append(new)
        return super()._store(new, waits=waits)

    def _take(self, row: Row, session_id: str, demand: Demand) -> None:
        super()._take(row, session_id, demand)
        self.ledger.claimed(row.id, row.fence, row.token)

    def _end(self, row: Row, step: Finish, attempt_reason: str = "", *, fate: Fate | None = None) -> None:
        super()._end(row, step, attempt_reason, fate=fate)
        self.ends.setdefault(row.id, step.state)

    def _settle_one(self, outcome: Outcome) -> Verdict:
        row = self._holding(outcome.token)
        verdict = super()._settle_one(outcome)
        self.ledger.judged(outcome, verdict, is_final=row is not None and row.state.is_final)
        return verdict


class Caller(Protocol):
    """A process that calls the engine: dead ones hear nothing, stopped ones later."""

    @property
    def is_dead(self) -> bool:
        """Whether it is gone for good."""

    @property
    def away_s(self) -> float:
        """For how long it is stopped, from now."""

    @property
    def is_cut_off(self) -> bool:
        """Whether nothing gets through between it and the engine."""


class Network:
    """Carries calls to the server: some get lost, some answers do, some calls arrive late."""

    def __init__(self, world: World, server: Server, *, faults: float) -> None:
        self.world = world
        self.server = server
        self.faults = faults
        self.down_until = 0.0

    def call(
        self,
        caller: Caller,
        verb: Callable[[], T],
        *,
        then: Callable[[T], None],
        fails: Callable[[EngineError], None],
    ) -> None:
        """Carry out a call: one of `then` and `fails` follows later, unless the caller is gone by then.

        What a stopped process was asked to carry out goes out when it goes on. A call that nobody waits
        for any more is carried out up to `LATE_S` late.
        """
        if caller.is_dead:
            return
        if caller.away_s > 0:
            self.world.after(caller.away_s, lambda: self.call(caller, verb, then=then, fails=fails))
            return
        out_s, back_s = self._journey()
        if back_s is None:
            self._hear(caller, PATIENCE_S, lambda: fails(EngineUnavailable("no answer")))
            if out_s is not None:
                self.world.after(out_s, lambda: self._arrive_unheard(caller, verb))
            return
        self.world.after(out_s or 0.0, lambda: self._arrive(caller, verb, back_s, then, fails))

    def at_once(self, caller: Caller, verb: Callable[[], T]) -> T:
        """Carry out a call that takes no time. Raises EngineUnavailable, also when it was carried out."""
        out_s, back_s = self._journey()
        if self._is_closed_to(caller):
            raise EngineUnavailable("out of reach")
        if back_s is not None:
            return verb()
        if out_s is not None:
            self.world.after(out_s, lambda: self._arrive_unheard(caller, verb))
        raise EngineUnavailable("no answer")

    def _journey(self) -> tuple[float | None, float | None]:
        """Return how long a call and its answer travel; None for what never arrives."""
        world = self.world
        if not world.happens(self.faults):
            return LATENCY_S, LATENCY_S
        match world.random.randrange(4):
            case 0:
                return None, None
            case 1:
                return LATENCY_S, None
            case 2:
                return world.between(0, LATE_S), None
            case _:
                return world.between(0, PATIENCE_S / 9), world.between(0, PATIENCE_S * 8 / 9)

    def _arrive(
        self,
        caller: Caller,
        verb: Callable[[], T],
        back_s: float,
        then: Callable[[T], None],
        fails: Callable[[EngineError], None],
    ) -> None:
        if self._is_closed_to(caller):
            self._hear(caller, LATENCY_S, lambda: fails(EngineUnavailable("out of reach")))
            return
        try:
            answer = verb()
        except SessionClosed as closed:
            refusal = closed
            self._hear(caller, back_s, lambda: fails(refusal))
        else:
            self._hear(caller, back_s, lambda: then(answer))

    def _arrive_unheard(self, caller: Caller, verb: Callable[[], object]) -> None:
        """Carry out what nobody waits for any more, whoever sent it."""
        if self._is_closed_to(caller):
            return
        self.world.note("a call arrives whose caller has given up")
        with contextlib.suppress(SessionClosed):
            verb()

    def _hear(self, caller: Caller, in_s: float, act: Act) -> None:
        def hear() -> None:
            if not caller.is_dead:
                self._hear(caller, caller.away_s, act) if caller.away_s > 0 else act()

        self.world.after(in_s, hear)

    def _is_closed_to(self, caller: Caller) -> bool:
        return self.world.now < self.down_until or caller.is_cut_off
