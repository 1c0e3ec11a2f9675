"""All promises of the suite: one per test function, one behaviour per file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

import msgspec

from cicely.testing.conformance.harness import Capability, Harness

BEHAVIOURS = (
    "enqueueing",
    "identity",
    "claiming",
    "order",
    "ageing",
    "asks",
    "lanes",
    "turns",
    "limits",
    "rates",
    "refusals",
    "acquiring",
    "breakers",
    "probes",
    "resources",
    "patience",
    "precedence",
    "reservations",
    "unreserving",
    "accepting",
    "backlogs",
    "settings",
    "surroundings",
    "settling",
    "receipts",
    "retries",
    "sessions",
    "rescue",
    "fencing",
    "expiry",
    "cancelling",
    "reviving",
    "edges",
    "cascades",
    "undoing",
    "publishing",
    "suspending",
    "schedules",
    "pausing",
    "messages",
    "progress",
    "searching",
    "retention",
    "rollups",
    "events",
    "telling",
    "blobs",
    "bells",
    "ringing",
    "connections",
    "crowds",
    "contention",
    "durability",
)


class Promise(msgspec.Struct, frozen=True):
    """One sentence of the contract, and the function that checks it on a harness."""

    behaviour: str
    name: str
    check: Callable[[Harness], None]
    requires: frozenset[Capability]

    def __str__(self) -> str:
        return f"{self.behaviour}-{self.name}"


class Case(msgspec.Struct, frozen=True):
    """A promise, and the engine that makes it."""

    harness: type[Harness]
    promise: Promise

    def __str__(self) -> str:
        return str(self.promise)

    def keep(self) -> None:
        """Check the promise on a harness of its own; raises AssertionError where it is broken."""
        harness = self.harness()
        try:
            self.promise.check(harness)
        finally:
            harness.destroy()


def cases(harness: type[Harness]) -> list[Case]:
    """Return a case for each promise that the engine behind `harness` makes."""
    made = harness.capabilities
    return [Case(harness, promise) for promise in promises() if promise.requires <= made]


def promises() -> list[Promise]:
    """Return every promise, by behaviour, in the order they are written."""
    return [promise for behaviour in BEHAVIOURS for promise in _promises_of(behaviour)]


def _promises_of(behaviour: str) -> Iterator[Promise]:
    """Yield the `test_` functions of one file, whose REQUIRES names the capabilities it takes."""
    module = import_module(f"{__package__}.{behaviour}")
    requires: frozenset[Capability] = getattr(module, "REQUIRES", frozenset())
    for name, check in vars(module).items():
        if name.startswith("test_"):
            yield Promise(behaviour, name.removeprefix("test_"), check, requires)
