"""Flow control of one call: what claims take beside their job, and what comes back when they end.

One lock for all makes limits exact. It is taken last, when a call waits for nobody else any more, and held
until the commit. What ends before is noted here and given back then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec

from cicely.core.flow import Use
from cicely.core.outcome import Deferred, Failed, HandedBack, Outcome, Succeeded, Suspended
from cicely.core.reservations import without
from cicely.engines.postgres.arrays import bigints, byteas, ints
from cicely.engines.postgres.drawing import draw
from cicely.engines.postgres.graph import DRAWS
from cicely.engines.postgres.lanes import Lanes
from cicely.engines.postgres.limiting import Guard, Valves, read_flow
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import Place
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.units import names_in, stored_names
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("valve")
_STREAM: Final = statements("stream")
_RESERVE: Final = statements("reserve")

#: So many streams to which jobs came are looked at by one claim, and by a sweep for each step of its others.
CAME_PER_CLAIM: Final = 512

#: The park of a gate where no job stands.
IDLE: Final = -1

_decode_uses = msgspec.msgpack.Decoder(tuple[Use, ...]).decode


class Hold(NamedTuple):
    """A claim that ends, with what it took, in the order of the statement `held`."""

    n: int
    lane: int | None
    flow: bytes | None
    charged: float | None
    claimed_at: float


class Freed(NamedTuple):
    """Resources of which a workflow's reservation on a worker ended: what jobs drew of it is theirs."""

    workflow: str
    worker: str
    names: tuple[str, ...]


class Gates:
    """Valves, lanes and streams, as one transaction sees and moves them."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._is_locked = False
        self._ended: list[tuple[Hold, Outcome | None]] = []
        #: Streams to which jobs came, or from which they went, in this call.
        self.came: set[int] = set()
        #: Of streams that moved, whose first job is known: its row as claims read it.
        self.heads: dict[int, Values] = {}
        self._parked: dict[tuple[int, int], float] = {}
        self._reopened: dict[tuple[int, int], float] = {}
        self._gates: dict[int, int] = {}
        self._streams: dict[int, int] = {}
        #: Gates that were looked at in this call: what they may wait for is noted.
        self.seen: set[int] = set()
        #: What was freed of reservations, and whether any began or ended: nobody places jobs meanwhile.
        self.freed: list[Freed] = []
        #: Whether a claim left room of a limit for a job that goes first.
        self.has_kept_back = False
        self.has_reserved = False
        self.valves = Valves(txn)
        self.lanes = Lanes(txn)

    @property
    def now(self) -> float:
        """The instant of the call."""
        return self._txn.now

    @property
    def is_locked(self) -> bool:
        """Whether this call has the lock."""
        return self._is_locked

    def lock(self) -> None:
        """Take the lock, unless this call has it, and give back what was noted."""
        if not self._is_locked:
            self._txn.execute(_STREAM["lock"])
            self._is_locked = True
        if self._ended:
            self._give_all_back()
        freed, self.freed = self.freed, []
        for one in freed:
            self._draw_no_more(one)

    def _draw_no_more(self, freed: Freed) -> None:
        """Leave to running jobs what they drew of a reservation that ended."""
        where = {"workflow": freed.workflow, "worker": freed.worker}
        for n, stored in self._txn.rows(_RESERVE["drawn_of"], where):
            left = without({name: {} for name in names_in(stored)}, freed.names)
            self._txn.execute(_RESERVE["draw"], (stored_names(left), n))

    # --- what comes back ------------------------------------------------------------------
    def note_ends(self, ns: Sequence[int], outcomes: Mapping[int, Outcome] | None = None) -> None:
        """Note claims that end now, while they still stand in `run`."""
        by_number = outcomes or {}
        held = {row[0]: Hold(*row) for row in self._txn.rows(_SQL["held"], {"ns": list(ns)})}
        self._ended += [(held[n], by_number.get(n)) for n in ns if n in held]

    def note_holds(self, ended: Iterable[tuple[Hold, Outcome]]) -> None:
        """Note claims that end now, as they were read with what they took."""
        self._ended += ended

    def was_probe(self, n: int, outcome: Failed) -> bool:
        """Return whether a claim was let through as a probe of a breaker that its failure blames.

        Without the lock: what may change meanwhile does not change that.
        """
        valves = Valves(self._txn)
        for hold in map(Hold._make, self._txn.rows(_SQL["held"], {"ns": [n]})):
            names = [name for name in read_flow(hold.flow)[0].breakers if name in outcome.blames]
            return any(valves.was_probe(name, claimed_at=hold.claimed_at) for name in names)
        return False

    def _give_all_back(self) -> None:
        """Give back what ended, in its order: a refusal counts who holds its key then."""
        ended, self._ended = self._ended, []
        ns = [hold.n for hold, _ in ended]
        keys = {use.key for hold, _ in ended for use in read_flow(hold.flow)[1]}
        note_valves = self.valves.ask(keys.union(*(o.slows for _, o in ended if isinstance(o, Deferred))))
        note_lanes = self.lanes.ask({hold.lane for hold, _ in ended if hold.lane is not None})
        let_go = self._txn.rows(_SQL["let_go"], {"ns": ns})
        note_valves()
        note_lanes()
        gone: dict[int, list[Values]] = {}
        has_requests = False
        for n, valve, at, request in let_go:
            gone.setdefault(n, []).append((valve, at))
            has_requests = has_requests or bool(request)
        for hold, outcome in ended:
            if outcome is not None:
                self._heed(hold, outcome)
            self._give_back(hold, _spent_in(outcome), unused=_is_unused(outcome))
            self.valves.let_go(gone.get(hold.n, ()))
        if has_requests:
            self._txn.execute(_SQL["release_all"], {"ns": ns})
        if any(read_flow(hold.flow)[0].resources for hold, _ in ended):
            self._txn.execute(_SQL["free_units"], {"ns": ns})
        self.write()

    def _heed(self, hold: Hold, outcome: Outcome) -> None:
        """Let an outcome tell the valves that its claim passed what it met."""
        if isinstance(outcome, Deferred):
            for key in outcome.slows:
                self.valves.refuse(key, outcome.delay_s)
        if isinstance(outcome, Succeeded | Failed | Suspended):
            blames = outcome.blames if isinstance(outcome, Failed) else ()
            for name in read_flow(hold.flow)[0].breakers:
                self.valves.tell(name, claimed_at=hold.claimed_at, is_to_blame=name in blames)

    def _give_back(self, hold: Hold, spent: Mapping[str, float], *, unused: bool) -> None:
        """Give back what a claim took: rates and its lane's charge only where it came back unused."""
        if hold.charged and hold.lane is not None:
            if unused:
                self.lanes.give_back(hold.lane, was_charged=hold.charged)
            else:
                ran_s = self.now - hold.claimed_at
                self.lanes.correct(hold.lane, was_charged=hold.charged, ran_s=ran_s)
        for use in read_flow(hold.flow)[0].uses:
            if unused:
                self.valves.give_back(use)
            else:
                self.valves.correct(use, spent)

    # --- where jobs stand -----------------------------------------------------------------
    def fold(self, limit: int = CAME_PER_CLAIM) -> bool:
        """Find the heads of streams to which jobs came; return whether there may be more."""
        came = self._txn.rows(_STREAM["came"], {"limit": limit})
        self.came.update(stream for stream, _, is_behind_head in came if not is_behind_head)
        self.find_heads()
        return bool(sum(count for _, count, _ in came) == limit)

    def take_moves(self, queue: int) -> dict[str, Any]:
        """Return what the statement `start_gated` stores with the claims of a queue, and forget it."""
        return {**self.valves.take_holders(), **self.lanes.take_moved(queue), **self._take_heads()}

    def _take_heads(self) -> dict[str, Any]:
        heads, self.heads = self.heads, {}
        return {
            "streams": ints(list(heads)),
            "head_ranks": bigints([row[0] for row in heads.values()]),
            "head_ns": bigints([row[1] for row in heads.values()]),
            "head_flows": byteas([row[16] for row in heads.values()]),
        }

    def find_heads(self) -> None:
        """Store the heads that are known, and find those of what else this call moved."""
        if self.heads:
            self._txn.execute(_STREAM["move_heads"], self._take_heads())
        while self.came:
            came, self.came = self.came, set()
            found = self._txn.rows(_STREAM["find_heads"], {"streams": sorted(came)})
            idle = {gate for gate, park, _ in found if park == IDLE}
            if idle:
                self._txn.execute(_STREAM["wake_gates"], {"gates": sorted(idle)})
            for forgotten in [stream for _, _, stream in found if stream]:
                self._stand_anew(forgotten)

    def _stand_anew(self, forgotten: int) -> None:
        """Give jobs another stream that came to theirs while it was forgotten. Raises Unplaced."""
        txn = self._txn
        txn.names.streams.forget(forgotten)
        row = txn.row(_STREAM["of_stream"], {"stream": forgotten})
        if row is None:
            return
        queue, lane, job_class, flow = row
        [number] = txn.names.streams.numbers_of([Place(queue, lane, job_class, read_flow(flow)[0].needs)])
        where = {"stream": forgotten, "to": number, "queue": queue, "class": job_class}
        moved = txn.rows(_STREAM["move_jobs"], where)
        txn.execute(_STREAM["move_ready"], where)
        self.came.add(number or 0)
        self.came |= draw(txn, [n for n, traits in moved if traits & DRAWS])

    def park_gate(self, gate: int, queue: int, guard: Guard, open_at: float) -> None:
        """Put a gate out of sight until its valve may be open."""
        self._gates[gate] = guard.number
        self._park(queue, guard, open_at)

    def park_stream(self, stream: int, queue: int, guard: Guard, open_at: float) -> None:
        """Put a stream out of sight until a valve may be open."""
        self._streams[stream] = guard.number
        self._park(queue, guard, open_at)

    def _park(self, queue: int, guard: Guard, open_at: float) -> None:
        place = (guard.number, queue)
        self._parked[place] = min(self._parked.get(place, open_at), open_at)

    def reopen(self, valve: int, queue: int, open_at: float) -> None:
        """Note when those who are parked at a valve are to be looked at again."""
        self._reopened[valve, queue] = open_at

    def unpark_gate(self, gate: int) -> None:
        """Put a gate back in sight."""
        self._gates[gate] = 0

    def unpark_stream(self, stream: int) -> None:
        """Put a stream back in sight."""
        self._streams[stream] = 0

    # --- writing --------------------------------------------------------------------------
    def write(self) -> None:
        """Store what changed, so that the tables say what is."""
        txn = self._txn
        self.valves.write()
        self.lanes.write()
        for statement, parks in (("park_gates", self._gates), ("park_streams", self._streams)):
            if parks:
                txn.execute(_STREAM[statement], {"ids": list(parks), "parks": list(parks.values())})
                parks.clear()
        parked, self._parked = self._parked, {}
        reopened, self._reopened = self._reopened, {}
        woken = self.valves.woken()
        if woken:
            txn.execute(_STREAM["wake"], {"valves": sorted(woken)})
        txn.many(_STREAM["reopen"], [(open_at, *place) for place, open_at in sorted(reopened.items())])
        txn.many(_STREAM["park"], [(*place, open_at) for place, open_at in sorted(parked.items())])

    def close(self) -> None:
        """Do what is left to do before the commit."""
        if self._ended or self.freed or self.has_reserved:
            self.lock()
        if self.came:
            self._txn.execute(_STREAM["add_came"], {"streams": sorted(self.came)})
            self.came = set()


def _spent_in(outcome: Outcome | None) -> Mapping[str, float]:
    """Return what an attempt spent, by cost meter."""
    return outcome.spent if isinstance(outcome, Succeeded | Failed | Deferred | Suspended) else {}


def _is_unused(outcome: Outcome | None) -> bool:
    """Return whether a claim came back without having begun."""
    return isinstance(outcome, HandedBack) and not (outcome.alone or outcome.has_started)


def gates_of(txn: Transaction) -> Gates:
    """Return the flow control of a transaction."""
    if txn.gates is None:
        txn.gates = Gates(txn)
    return cast(Gates, txn.gates)


def stood(txn: Transaction, streams: Iterable[int]) -> None:
    """Note streams to which jobs came, or whose head may have gone; 0 is none."""
    came = {stream for stream in streams if stream}
    if came:
        gates_of(txn).came.update(came)
