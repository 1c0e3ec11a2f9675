"""A session as this process knows it: what it can run is asked for at every claim."""

from __future__ import annotations

import msgspec

from cicely.engines.contract import Session

_decode = msgspec.json.Decoder(Session).decode


class Member:
    """A session and its number in the schema. What a session can run never changes."""

    __slots__ = ("_runs", "number", "session")

    def __init__(self, number: int, session: Session) -> None:
        self.number = number
        self.session = session
        self._runs: dict[str, bool] = {}

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
