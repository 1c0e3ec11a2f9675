"""Jobs of one flow that pass one after the other: what they take of their valves is taken at once."""

from __future__ import annotations

from cicely.core import patience
from cicely.engines.sqlite.gates import Gates
from cicely.engines.sqlite.limiting import read_flow
from cicely.engines.sqlite.patience import Waiters


class Run:
    """The jobs that passed since a valve was asked; others ask anew when it ends."""

    __slots__ = ("_flow", "_gates", "_left", "_ns", "_waiters")

    def __init__(self, gates: Gates, waiters: Waiters) -> None:
        self._gates = gates
        self._waiters = waiters
        self._flow: bytes | None = None
        self._left = 0.0
        self._ns: list[int] = []

    def lets_pass(self, flow: bytes) -> bool:
        """Return whether it is known that another job of this flow passes."""
        return self._left >= 1.0 and flow == self._flow

    def begin(self, flow: bytes) -> None:
        """Begin with jobs of this flow, of which one passes."""
        room_for = self._gates.valves.room_for
        self._flow = flow
        self._left = min(room_for(use) for use in read_flow(flow)[1])

    def add(self, n: int) -> None:
        """Note a job that passed."""
        self._ns.append(n)
        self._left -= 1.0

    def end(self) -> None:
        """Take what the jobs that passed take."""
        self._left = 0.0
        if not self._ns:
            return
        flow, uses, _ = read_flow(self._flow)
        for use in flow.uses:
            self._gates.valves.reserve(use, len(self._ns))
        for use in uses:
            self._gates.valves.hold(use, self._ns)
        for n in patience.noted(self._waiters, uses).intersection(self._ns):
            patience.went(self._waiters, n, uses)
        self._ns = []
