"""The memory engine: the executable specification of the contract, and the engine of unit tests.

It is the shortest code that keeps every promise of `engines.contract`: plain dictionaries, one
lock, linear searches. Speed is not its purpose; the other engines are compared with it. Each file
adds a group of verbs to the one before: `moves` (what may happen to a job, no verb), `sessions`,
`life`, `upkeep`, `engine`.
"""

from cicely.engines.memory.bells import MemoryBell
from cicely.engines.memory.engine import MemoryEngine
from cicely.engines.memory.rows import Member, Row

__all__ = ["Member", "MemoryBell", "MemoryEngine", "Row"]
