"""The simulated cluster: a day of three workers in virtual time, with faults, by a seed.

The engine is the memory engine. The workers are the product's keeper, exchange, board, pool and
judgements, turn by turn instead of in threads; only processes, network and clocks are made up.
A ledger in memory judges what really ran. `python -m cicely.testing.cluster` runs seeds.
Needs `hypothesis`, for the invariants.
"""

from cicely.testing.cluster.run import Cluster, Verdict

__all__ = ["Cluster", "Verdict"]
