"""Flow control of one call: what claims take beside their job, and what comes back when they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

import msgspec

from cicely.core.flow import Use
from cicely.core.outcome import Deferred, Failed, HandedBack, Outcome, Succeeded, Suspended
from cicely.engines.sqlite.lanes import Lanes
from cicely.engines.sqlite.limiting import Valves, read_flow
from cicely.engines.sqlite.reservations import Reservations
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.streams import Streams
from cicely.engines.sqlite.transaction import Transaction

_VALVE: Final = statements("valve")

_decode_uses = msgspec.msgpack.Decoder(tuple[Use, ...]).decode


class Hold(NamedTuple):
    """A claim that is ending, with what it took."""

    n: int
    queue: int
    lane: str
    flow: bytes | None
    charged: float
    claimed_at: float


class Gates:
    """Valves, lanes and streams, as one transaction sees and moves them."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self.valves = Valves(txn)
        self.lanes = Lanes(txn)
        self.reservations = Reservations(txn)
        self.streams = Streams(txn, self.valves, self.lanes, self.reservations)
        self._has_acquired: bool | None = None
        #: Whether a claim left room of a limit for a job that goes first.
        self.has_kept_back = False

    @property
    def now(self) -> float:
        """The instant of the call."""
        return self._txn.now

    def write(self) -> None:
        """Store what changed, so that the tables say what is."""
        self.valves.write()
        self.streams.write()

    def note_acquired(self) -> None:
        """Note that a running claim acquired something."""
        self._has_acquired = True

    # --- what comes back ------------------------------------------------------------------
    def heed(self, hold: Hold, outcome: Outcome) -> None:
        """Let an outcome tell the valves that its claim passed what it met."""
        if isinstance(outcome, Deferred):
            for key in outcome.slows:
                self.valves.refuse(key, outcome.delay_s)
        if isinstance(outcome, Succeeded | Failed | Suspended):
            blames = outcome.blames if isinstance(outcome, Failed) else ()
            for name in read_flow(hold.flow)[0].breakers:
                self.valves.tell(name, claimed_at=hold.claimed_at, is_to_blame=name in blames)

    def was_probe(self, hold: Hold, outcome: Failed) -> bool:
        """Return whether a claim was let through as a probe of a breaker that its failure blames."""
        names = [name for name in read_flow(hold.flow)[0].breakers if name in outcome.blames]
        return any(self.valves.was_probe(name, claimed_at=hold.claimed_at) for name in names)

    def give_back(self, hold: Hold, spent: Mapping[str, float], *, unused: bool) -> None:
        """Give back what a claim took: rates and its lane's charge only where it came back unused."""
        flow, uses, _ = read_flow(hold.flow)
        if hold.charged:
            self._correct_lane(hold, unused=unused)
        if unused:
            for use in flow.uses:
                self.valves.give_back(use)
        elif spent:
            for use in flow.uses:
                self.valves.correct(use, spent)
        if uses:
            self.valves.let_go(uses, hold.claimed_at, (hold.n,))
        if flow.resources:
            self._txn.execute(_VALVE["free_units"], (hold.n,))
        self._release_all(hold.n)
        self._txn.freshen()

    def give_back_alike(self, flow: bytes | None, claimed_at: float, ns: Sequence[int]) -> None:
        """Give back what claims of one flow took at one instant: of limits, nothing else."""
        uses = read_flow(flow)[1]
        for n in ns:
            if self._has_acquired is not False:
                self._release_all(n)
        if uses:
            self.valves.let_go(uses, claimed_at, ns)
        self._txn.freshen()

    def _correct_lane(self, hold: Hold, *, unused: bool) -> None:
        if unused:
            self.lanes.give_back(hold.queue, hold.lane, was_charged=hold.charged)
            return
        ran_s = self._txn.now - hold.claimed_at
        self.lanes.correct(hold.queue, hold.lane, was_charged=hold.charged, ran_s=ran_s)

    def _release_all(self, n: int) -> None:
        """Let go of what a claim acquired on its way."""
        if self._has_acquired is None:
            self._has_acquired = self._txn.row(_VALVE["any_acquired"]) is not None
        if not self._has_acquired:
            return
        acquired = self._txn.rows(_VALVE["all_acquired"], (n,))
        for request, uses, at in acquired:
            self.valves.let_go(_decode_uses(uses), at, (n,), request)
        if acquired:
            self._txn.execute(_VALVE["release_all"], (n,))


def spent_in(outcome: Outcome) -> Mapping[str, float]:
    """Return what an attempt spent, by cost meter."""
    return outcome.spent if isinstance(outcome, Succeeded | Failed | Deferred | Suspended) else {}


def is_plain(flow: bytes | None) -> bool:
    """Return whether a flow takes nothing but limits."""
    found = read_flow(flow)[0]
    return not found.breakers and not found.resources


def is_unused(outcome: Outcome) -> bool:
    """Return whether a claim came back without having begun."""
    return isinstance(outcome, HandedBack) and not (outcome.alone or outcome.has_started)


def gates_of(txn: Transaction) -> Gates:
    """Return the flow control of a transaction."""
    if txn.gates is None:
        txn.gates = Gates(txn)
    return cast(Gates, txn.gates)
