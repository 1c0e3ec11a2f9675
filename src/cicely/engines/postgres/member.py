"""A session as this process knows it: what it can run is asked for at every claim."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from cicely.core.job import Kind
from cicely.engines.contract import Session

_decode = msgspec.json.Decoder(Session).decode

#: A session asks for few sets of kinds, again and again.
_MOST_KINDS: Final = 8


class Member:
    """A session and its number in the schema. What a session can run never changes."""

    __slots__ = ("_fitting", "_runs", "looks_early", "number", "session")

    def __init__(self, number: int, session: Session) -> None:
        self.number = number
        self.session = session
        #: Whether it may look for jobs while its ends are read: not where others followed on the last ones.
        self.looks_early = True
        self._runs: dict[str, bool] = {}
        self._fitting: dict[tuple[Collection[Kind], int], list[int]] = {}

    def fitting(self, classes: Mapping[int, tuple[str, Kind]], kinds: Collection[Kind]) -> list[int]:
        """Return the numbers of those classes, which only become more, that this session can run."""
        key = (kinds, len(classes))
        if key not in self._fitting:
            self._fitting[key] = [
                n for n, (task, kind) in classes.items() if kind in kinds and self.runs(task)
            ]
        return self._fitting[key]

    def runs(self, task: str) -> bool:
        """Return whether this session can run jobs of `task`."""
        known = self._runs.get(task)
        if known is None:
            known = self._runs[task] = self.session.runs(task)
        return known

    def serves(self, queue: str) -> bool:
        """Return whether this session may take from `queue`; one that named none takes from any."""
        queues = self.session.queues
        return not queues or queue in queues


def session_of(session_id: str, facts: bytes) -> Session:
    """Read a session's facts; where they were damaged by hand it can run nothing, but be rescued."""
    try:
        return _decode(facts)
    except ValueError:
        return Session(id=session_id, worker=session_id)
