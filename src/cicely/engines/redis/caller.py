"""How the verbs of this engine reach its scripts."""

from __future__ import annotations

from typing import Protocol

from cicely.engines.redis.line import Reply, Word


class Caller(Protocol):
    """Runs a verb's script."""

    def __call__(self, verb: str, *arguments: Word) -> Reply:
        """Return the script's reply to these arguments. Raises EngineError."""
