"""The product's keeper without its thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cicely.core.outcome import Outcome
from cicely.core.rollup import Count
from cicely.engines.contract import Beat, Host, Session, SessionRecord, Silent, Swept
from cicely.errors import EngineError
from cicely.testing.cluster.server import Bell, Network
from cicely.testing.cluster.world import LEASE_S, Act
from cicely.upkeep.rescue import Watch
from cicely.worker.keeper import FIRST_BEAT, Held, Keeper

if TYPE_CHECKING:
    from cicely.testing.cluster.supervisor import Supervisor

WATCH_S: Final = LEASE_S / 6
SWEEP_S: Final = LEASE_S / 3
AGAIN_S: Final = 60.0


class Reach:
    """What a keeper takes for its engine: calls take no time. Beats do, and go another way."""

    def __init__(self, owner: Supervisor, network: Network, ring: Act) -> None:
        self._owner = owner
        self._network = network
        self._server = network.server
        self._ring = ring

    def join(self, session: Session) -> None:
        """As `engines.contract.Engine.join`."""
        self._network.at_once(self._owner, lambda: self._server.join(session))

    def retire(self, session_id: str, outcomes: Sequence[Outcome] = ()) -> None:
        """As `engines.contract.Engine.retire`."""
        self._network.at_once(self._owner, lambda: self._server.retire(session_id, outcomes))

    def sessions(self) -> list[SessionRecord]:
        """As `engines.contract.Engine.sessions`."""
        return self._network.at_once(self._owner, self._server.sessions)

    def sweep(self, batch: int, silent: Sequence[Silent] = ()) -> Swept:
        """As `engines.contract.Engine.sweep`."""
        return self._network.at_once(self._owner, lambda: self._server.sweep(batch, silent))

    def report(self, counts: Sequence[Count]) -> None:
        """As `engines.contract.Engine.report`."""
        self._network.at_once(self._owner, lambda: self._server.report(counts))

    def doorbell(self, session_id: str) -> Bell:
        """As `engines.contract.Engine.doorbell`."""
        return self._server.bell(session_id, self._ring)


class TurnByTurn(Keeper):
    """The keeper's duties, one turn at a time; a beat takes the time that its journey takes."""

    def __init__(self, owner: Supervisor, network: Network, worker_id: str, *, host: Host) -> None:
        self._reach = Reach(owner, network, self._rung)
        engine: Any = self._reach
        super().__init__(engine, worker_id, lease_s=LEASE_S)
        self._owner = owner
        self._network = network
        self._host = host
        self._watch_s = WATCH_S
        self._watch = Watch(max_gap_s=2 * WATCH_S)
        self._is_waiting = False

    def turn(self) -> None:
        """Carry out what was posted and what is due, unless a beat is on its way."""
        if self._is_waiting:
            return
        self._carry_out_calls()
        now = self._network.world.now
        for duty in self._duties_due(now):
            if not self._is_waiting:
                self._attempt(duty)
        if not self._is_waiting:
            self._attempt(self._listen)
        self._sweep_at = max(self._sweep_at, now + 1.0)

    def post_retire(self, session_id: str, outcomes: Sequence[Outcome]) -> None:
        """Post the end of a child's session."""
        self.post(lambda: self._reach.retire(session_id, outcomes))

    def wait_s(self) -> float:
        """Return how long nothing is due."""
        if self._is_waiting:
            return WATCH_S
        return AGAIN_S if self._calls else max(1.0, min(WATCH_S, self._wait_ms() / 1000))

    def _duties_due(self, now: float) -> list[Any]:
        before = self._sweep_at
        due = super()._duties_due(now)
        if self._sweep_at != before:
            self._sweep_at = now + SWEEP_S
        return due

    def _beat(self) -> None:
        sent_at = self._network.world.now
        held = self._held()
        self._send(held, self._next_number(sent_at), lambda beats: self._note_beat(beats, sent_at))

    def _ask(self) -> None:
        sent_at = self._network.world.now
        new = self._boards.keys() - self._last_held.keys()
        self._send(self._held(), FIRST_BEAT, lambda beats: self._note_answer(beats, sent_at, new))

    def _send(self, held: Held, number: int, take_in: Callable[[list[Beat]], None]) -> None:
        self._is_waiting = True
        server = self._network.server

        def answered(beats: list[Beat]) -> None:
            self._is_waiting = False
            self._attempt(lambda: take_in(beats))
            self._owner.wake()

        def failed(error: EngineError) -> None:
            def fail() -> None:
                raise error

            self._is_waiting = False
            self._attempt(fail)
            self._owner.wake()

        self._network.call(
            self._owner,
            lambda: server.beat(held, number),
            then=answered,
            fails=failed,
        )

    def _rung(self) -> None:
        if self._bell is not None:
            self._bell.arm()
        self._is_asking = True
        self._network.world.after(0.0, self._owner.wake)

    def close(self) -> None:
        """Give back what the thread gives back at its end."""
        import os

        os.close(self._wake)
        os.close(self._news_bell)
        if self._bell is not None:
            self._bell.close()
