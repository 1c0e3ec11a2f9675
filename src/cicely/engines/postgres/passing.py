"""Jobs of one flow that pass one after the other: what they take of their valves is taken at once."""

from __future__ import annotations

from cicely.core import patience
from cicely.engines.postgres.limiting import Valves, read_flow
from cicely.engines.postgres.patience import Waiters


class Run:
    """The jobs that passed since a valve was asked; others ask anew when it ends."""

    __slots__ = ("_flow", "_left", "_ns", "_valves", "_waiters")

    def __init__(self, valves: Valves, waiters: Waiters) -> None:
        self._valves = valves
        self._waiters = waiters
        self._flow: bytes | None = None
        self._left = 0.0
        self._ns: list[int] = []

    def lets_pass(self, flow: bytes | None) -> bool:
        """Return whether it is known that another job of this flow passes."""
        return self._left >= 1.0 and flow == self._flow

    def begin(self, flow: bytes | None) -> None:
        """Begin with jobs of this flow, of which one passes."""
        self._flow = flow
        self._left = min((self._valves.room_for(use) for use in read_flow(flow)[1]), default=0.0)

    def add(self, n: int) -> None:
        """Note a job that passed."""
        self._ns.append(n)
        self._left -= 1.0

    def end(self) -> None:
        """Take what the jobs that passed take."""
        self._left = 0.0
        if not self._ns:
            return
        flow, uses = read_flow(self._flow)
        for use in flow.uses:
            self._valves.reserve(use, len(self._ns))
        for use in uses:
            self._valves.hold(use, self._ns)
        for n in patience.noted(self._waiters, uses).intersection(self._ns):
            patience.went(self._waiters, n, uses)
        self._ns = []
