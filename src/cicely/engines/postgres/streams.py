"""Streams, as they are named: where ready jobs stand that something beside their queue holds back.

Who needs one that is not there gives it its number in a short transaction of his own. A sweep forgets those
of which no job is left. Jobs that come to one meanwhile, by a process that remembers it or inside a
caller's transaction, are given another when they are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from cicely.core.flow import Flow, Needs
from cicely.core.lanes import LaneWeight
from cicely.engines.postgres.statements import statements

_SQL: Final = statements("stream")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Needs).decode
_decode_weight = msgspec.msgpack.Decoder(LaneWeight).decode
_NO_WANTS: Final = Needs()

#: A process remembers so many streams.
_MOST_KNOWN: Final = 100_000


class Place(NamedTuple):
    """What the jobs of one stream have in common; no class and needs: only the lane itself is meant."""

    queue: int
    lane: str
    job_class: int = 0
    needs: Needs | None = None


class Unplaced(Exception):
    """A transaction needs streams, or lanes, that nobody has named yet: it is repeated when they are."""

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__(places)
        self.places = places


def needs_of(flow: Flow | None, *, shuns: str = "", draws: str = "") -> Needs:
    """Return what jobs of one stream have in common."""
    needs = _NO_WANTS if flow is None else flow.needs
    return Needs(needs.keys, needs.resources, needs.traits, shuns, draws) if shuns or draws else needs


def wants_of(stored: bytes) -> Needs:
    """Read what a band wants of a session and its worker; keys are not part of it."""
    try:
        return _decode(stored) if stored else _NO_WANTS
    except (msgspec.DecodeError, TypeError):
        return _NO_WANTS


def _wants(needs: Needs) -> bytes:
    wants = Needs((), needs.resources, needs.traits, needs.shuns, needs.draws)
    return b"" if wants == _NO_WANTS else _encode(wants)


class Streams:
    """The streams that one process knows; committed ones alone."""

    def __init__(self) -> None:
        self._known: dict[Place, int] = {}
        #: Up to where a sweep of this process has looked for empty ones.
        self.swept_to = 0

    def numbers_of(self, places: Iterable[Place | None]) -> list[int | None]:
        """Return the streams of these places, None for None. Raises Unplaced for those without a number."""
        found = [None if place is None else self._known.get(place) for place in places]
        if None in found:
            missing = {p for p, number in zip(places, found, strict=True) if p is not None and number is None}
            if missing:
                raise Unplaced(list(missing))
        return found

    def learn(self, numbers: dict[Place, int]) -> None:
        """Remember streams that are committed."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known |= numbers

    def forget(self, number: int) -> None:
        """Ask for the number of a stream again: it was forgotten."""
        self._known = {place: known for place, known in self._known.items() if known != number}


def give_numbers(link: Any, places: Sequence[Place], queue_names: dict[int, str]) -> dict[Place, int]:
    """Give streams and lanes their numbers; the caller commits. In the order of their names."""
    return _Naming(link, queue_names).name(places)


class _Naming:
    """One transaction that gives names their numbers."""

    def __init__(self, link: Any, queue_names: dict[int, str]) -> None:
        self._link = link
        self._queue_names = queue_names

    def name(self, places: Sequence[Place]) -> dict[Place, int]:
        self._run("share_names", None)
        whole = [place for place in places if place.needs is not None]
        valves = self._valves(whole)
        lanes = self._lanes(places)
        bands = self._bands(whole)
        gates: dict[tuple[int, tuple[int, ...]], int] = {}
        seats: dict[Place, tuple[int, int]] = {}
        for place in whole:
            needs = place.needs or _NO_WANTS
            band = bands[place.queue, place.job_class, _wants(needs)]
            keys = tuple(sorted(valves[key] for key in needs.keys))
            gates[band, keys] = 0
            seats[place] = (band, lanes[place.queue, place.lane])
        for band, keys in sorted(gates):
            gates[band, keys] = self._gate(band, list(keys))
        wanted = {}
        for place, (band, lane) in seats.items():
            keys = tuple(sorted(valves[key] for key in (place.needs or _NO_WANTS).keys))
            wanted[place] = (gates[band, keys], lane)
        return self._streams(wanted)

    def _run(self, statement: str, bindings: Any) -> Any:
        return self._link.execute(_SQL[statement], bindings)

    def _valves(self, places: Sequence[Place]) -> dict[str, int]:
        keys = sorted({key for place in places if place.needs for key in place.needs.keys})
        if not keys:
            return {}
        self._run("add_valves", {"keys": keys})
        return dict(self._run("valves", {"keys": keys}).fetchall())

    def _lanes(self, places: Sequence[Place]) -> dict[tuple[int, str], int]:
        pairs = {(place.queue, place.lane) for place in places}
        queues = sorted({queue for queue, _ in pairs})
        self._run("add_shares", {"queues": queues})
        # Until now all their jobs were of no lane, and those have clocks from here on.
        pairs |= {(queue, "") for (queue,) in self._run("had_plain", {"queues": queues}).fetchall()}
        ordered = sorted(pairs)
        weights = self._weights(ordered)
        columns = {"queues": [queue for queue, _ in ordered], "names": [name for _, name in ordered]}
        self._run("add_lanes", {**columns, "weights": [weights.get(pair, 1.0) for pair in ordered]})
        self._run("open_queues", {"queues": queues})
        found = self._run("lanes", columns).fetchall()
        return {(queue, name): number for queue, name, number in found}

    def _weights(self, pairs: Sequence[tuple[int, str]]) -> dict[tuple[int, str], float]:
        names = {f"{self._queue_names.get(queue, '')}/{lane}": (queue, lane) for queue, lane in pairs}
        found = self._run("weights", {"names": list(names)}).fetchall()
        return {names[name]: _decode_weight(value).weight for name, value in found}

    def _bands(self, places: Sequence[Place]) -> dict[tuple[int, int, bytes], int]:
        wanted = sorted({(p.queue, p.job_class, _wants(p.needs or _NO_WANTS)) for p in places})
        if not wanted:
            return {}
        queues, classes, wants = (list(column) for column in zip(*wanted, strict=True))
        columns = {"queues": queues, "classes": classes, "wants": wants}
        self._run("add_bands", columns)
        found = self._run("bands", columns).fetchall()
        return {(queue, job_class, bytes(want)): number for queue, job_class, want, number in found}

    def _gate(self, band: int, keys: list[int]) -> int:
        self._run("add_gate", (band, keys))
        [(number,)] = self._run("gate", (band, keys)).fetchall()
        return int(number)

    def _streams(self, wanted: dict[Place, tuple[int, int]]) -> dict[Place, int]:
        if not wanted:
            return {}
        seats = sorted(set(wanted.values()))
        columns = {"gates": [gate for gate, _ in seats], "lanes": [lane for _, lane in seats]}
        self._run("add_streams", columns)
        found = {(gate, lane): number for gate, lane, number in self._run("streams", columns).fetchall()}
        return {place: found[seat] for place, seat in wanted.items()}
