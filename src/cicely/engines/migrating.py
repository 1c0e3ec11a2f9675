"""Schema versions: what an engine offers that keeps a schema on a server."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec


class Migrated(msgspec.Struct, frozen=True):
    """The schema's version before and after; `before` is 0 where there was none."""

    place: str
    before: int
    after: int


@runtime_checkable
class Migrating(Protocol):
    """An engine whose stored schema has versions. A new one is created by `open` in any case."""

    def migrate(self) -> Migrated:
        """Bring the schema to the version of this Cicely, whole or not at all; any number may call it.

        Called on an engine that is not open. Raises SchemaTooNew, and EngineError while workers are up.
        """
