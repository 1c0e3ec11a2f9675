"""The table behaviour by engine that ends a run of the suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cicely.testing.conformance.harness import Capability
from cicely.testing.conformance.suite import BEHAVIOURS, Case, promises


class Table:
    """What each engine kept, broke and never promised."""

    def __init__(self) -> None:
        self._promised: dict[str, frozenset[Capability]] = {}
        self._kept: Counter[tuple[str, str]] = Counter()
        self._broken: Counter[tuple[str, str]] = Counter()

    def record(self, case: Case, *, kept: bool) -> None:
        """Note how one case ended."""
        engine = case.harness.name
        self._promised[engine] = case.harness.capabilities
        counter = self._kept if kept else self._broken
        counter[engine, case.promise.behaviour] += 1

    def lines(self) -> Iterator[str]:
        """Yield the table, ready to print; nothing where no case was run."""
        if not self._promised:
            return
        yield "".join([f"{'behaviour':<16}", *(f"{engine:>24}" for engine in self._promised)])
        for behaviour in BEHAVIOURS:
            cells = (self._cell(engine, behaviour) for engine in self._promised)
            yield "".join([f"{behaviour:<16}", *(f"{cell:>24}" for cell in cells)])

    def _cell(self, engine: str, behaviour: str) -> str:
        kept = self._kept[engine, behaviour]
        broken = self._broken[engine, behaviour]
        if broken:
            return f"{broken} BROKEN, {kept} passed"
        if kept:
            return f"{kept} passed"
        requires = next(p.requires for p in promises() if p.behaviour == behaviour)
        return "not run" if requires <= self._promised[engine] else "not promised"
