"""Finding sessions whose machine fell silent, by watching them for a whole lease.

A rescuer trusts only its own eyes and its own clock: a session is silent when its beat did not
change over a whole lease during which every look succeeded. After an outage of the engine nobody
is rescued before everybody had time to beat again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from cicely.engines.contract import Host, SessionRecord, Silent


class _Seen(msgspec.Struct, frozen=True):
    beat: int
    since: float


class Watch:
    """What one rescuer has seen of the others; `now` is its own monotonic clock.

    After more than `max_gap_s` between two looks (the machine slept, or this process was stopped)
    all observation starts anew.
    """

    def __init__(self, *, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._looked_at = float("-inf")
        self._seen: dict[str, _Seen] = {}

    def look(self, records: Iterable[SessionRecord], *, now: float) -> list[Silent]:
        """Note one look at the sessions; return those that have been silent for a whole lease."""
        if now - self._looked_at > self._max_gap_s:
            self.blink()
        self._looked_at = now
        seen: dict[str, _Seen] = {}
        silent: list[Silent] = []
        for record in records:
            session = record.session
            before = self._seen.get(session.id)
            if before is None or before.beat != record.beat:
                before = _Seen(record.beat, now)
            seen[session.id] = before
            if now - before.since >= session.lease_s:
                silent.append(Silent(session.id, record.beat))
        self._seen = seen
        return silent

    def blink(self) -> None:
        """Note that a look failed: all observation starts anew."""
        self._seen = {}


def gone(
    records: Sequence[SessionRecord], *, host: Host, is_alive: Callable[[int, int], bool]
) -> list[SessionRecord]:
    """Return the sessions on this host whose worker is known to be dead.

    A child is judged by its supervisor while that is registered: a living supervisor buries its
    own dead, and knows better why they died. `is_alive` takes a pid and its start time.
    """
    here = [record for record in records if record.session.pid and host.sees(record.session.host)]
    alive = {r.session.id for r in here if is_alive(r.session.pid, r.session.start_time)}
    registered = {record.session.id for record in records}
    return [
        record
        for record in here
        if (record.session.worker if record.session.worker in registered else record.session.id) not in alive
    ]


class Orphans:
    """Finds dead children that their own supervisor does not know: nobody else would bury them.

    A child that just died may yet be buried, so only what was dead at two looks counts.
    """

    def __init__(self) -> None:
        self._suspected: set[str] = set()

    def look(
        self, unknown: Sequence[SessionRecord], *, host: Host, is_alive: Callable[[int, int], bool]
    ) -> list[str]:
        """Return the sessions among `unknown` whose processes were dead at the last look as well."""
        dead = {
            record.session.id
            for record in unknown
            if record.session.pid
            and host.sees(record.session.host)
            and not is_alive(record.session.pid, record.session.start_time)
        }
        found = sorted(dead & self._suspected)
        self._suspected = dead
        return found
