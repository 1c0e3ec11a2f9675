"""The verbs of flow control on an engine under test and on the memory engine, which must agree."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cicely.core.flow import Use
from cicely.core.limits import Limit
from cicely.core.reservations import Reservation
from cicely.engines.contract import Demand, Engine, Grant, Intake, Setting, SettingRecord, Verdict
from cicely.engines.memory import MemoryEngine
from cicely.engines.memory.flow import is_breaker
from cicely.testing.conformance.harness import Capability, Harness
from cicely.testing.pair import TICK_S, Ending, Held, Pair, Snapshot
from cicely.testing.standing import alike, around_levelled, reserved_of, standings_of


class _Oracle(MemoryEngine):
    """The memory engine, whose limits are told who waits for them."""

    def adopt(self, records: Sequence[SettingRecord]) -> None:
        """Have the same jobs wait for limits as elsewhere: which are seen waiting is left to the engine."""
        by_key = {one.setting.key: one.gauge.first for one in records if isinstance(one.setting, Limit)}
        for key in {*(key for key in self._gauges if not is_breaker(key)), *by_key}:
            first = by_key.get(key)
            row = self._rows.get(first.job) if first else None
            adopted = msgspec.structs.replace(first, n=row.n, job="") if first and row else None
            self._waiters.put_first(key, adopted)


class FlowPair(Pair):
    """A pair that is asked about flow control as well, where the engine under test promises it."""

    def __init__(self, harness: Harness) -> None:
        super().__init__(harness)
        self._oracle = _Oracle(now=self.clock.now)
        self._engines[0] = self._oracle
        self.controls_flow = Capability.FLOW in harness.capabilities
        self._standings: tuple[SettingRecord, ...] = ()

    # --- verbs ----------------------------------------------------------------------------
    def claim(self, session_id: str, demand: Demand) -> list[Held]:
        """Claim on both, with the same jobs waiting for limits."""
        self._level_waiters()
        return super().claim(session_id, demand)

    def settle(
        self, session_id: str, endings: Sequence[Ending], demand: Demand | None
    ) -> tuple[list[Verdict], list[Held]]:
        """Settle on both and perhaps claim, with the same jobs waiting for limits."""
        self._level_waiters()
        return super().settle(session_id, endings, demand)

    def _level_waiters(self) -> None:
        if self.controls_flow:
            self._oracle.adopt(self._engines[1].settings("limit"))

    def configure(self, setting: Setting) -> None:
        """Keep a setting on both."""
        self._ask(lambda engine, _: engine.configure([setting]))

    def unset(self, kind: str, name: str) -> None:
        """Forget a setting on both."""
        self._ask(lambda engine, _: engine.unset(kind, name))

    def turn(self, breaker: str, move: str) -> None:
        """Trip or reset a breaker on both."""
        self._ask(lambda engine, _: engine.turn(breaker, move))

    def acquire(self, held: Held, request: bytes, uses: Sequence[Use]) -> bool:
        """Acquire on both for a claim; returns whether it was given."""

        def grant(engine: Engine, side: int) -> Grant:
            return engine.acquire(held.session_id, held.tokens[side], request, uses)

        right, given = self._answers(grant)
        if not isinstance(right, Grant) or not isinstance(given, Grant):
            assert given is right, f"acquire: {given} where {right} was right"
            return False
        assert alike(given, right), f"acquire: {given} where {right} was right"
        return given.given

    def release(self, held: Held, request: bytes, spent: dict[str, float]) -> None:
        """Release on both what a claim acquired."""
        self._ask(lambda engine, side: engine.release(held.session_id, held.tokens[side], request, spent))

    def look_around(self, job_id: str) -> None:
        """Compare what stands between a job and its start."""
        right, given = (around_levelled(engine.surroundings(job_id)) for engine in self._engines)
        assert alike(given, right), f"surroundings of {job_id}: {given} where {right} was right"

    def reservations(self, job_id: str) -> tuple[Reservation, ...]:
        """Return what is reserved, as a known job's surroundings show it, after comparing."""
        right, given = (reserved_of(engine.surroundings(job_id)) for engine in self._engines)
        assert alike(given, right), f"reserved: {given} where {right} was right"
        return given

    # --- comparing ------------------------------------------------------------------------
    def standings(self) -> tuple[SettingRecord, ...]:
        """Return where the valves of the engine under test stand, after comparing."""
        self.snapshot()
        return self._standings

    def snapshot(self) -> Snapshot:
        """Return all that the engine under test shows, after comparing it with the oracle's."""
        is_new = self._snapshot is None
        shown = super().snapshot()
        if is_new and self.controls_flow:
            right, self._standings = (standings_of(engine) for engine in self._engines)
            assert alike(self._standings, right), f"stand at {self._standings} where {right} was right"
        return shown

    def _check_due_time(self, demand: Demand, oracle: Intake, subject: Intake) -> None:
        """Compare when to claim again: behind valves, an engine may say so too soon, never too late.

        Who has got all that was wanted, or is told again what it has, claims again in any case.
        """
        if not self.controls_flow or not standings_of(self._engines[0]):
            super()._check_due_time(demand, oracle, subject)
            return
        right, given = oracle.next_due_in_s, subject.next_due_in_s
        is_repeated = demand.request in self._requests and oracle.claims
        if right is None or is_repeated or _is_filled(demand, oracle):
            return
        assert given is not None, f"nothing is due, right: {right}"
        assert given <= right + TICK_S, f"next due in {given} s, right: {right}"


def _is_filled(demand: Demand, intake: Intake) -> bool:
    """Return whether one of the asks got as much as it wanted."""
    kinds = [claim.kind for claim in intake.claims]
    return any(sum(kind in ask.kinds for kind in kinds) >= ask.slots for ask in demand.asks)
