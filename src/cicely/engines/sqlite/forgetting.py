"""Forgets the valves and lanes that say nothing any more: keys and lanes may be made of arguments.

Each sweep looks at the next few by their numbers. A number may be given again, so nothing may be left that
names one.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, numbers

_STREAM: Final = statements("stream")
_VALVE: Final = statements("valve")

#: A queue remembers the clocks of so many lanes of which no job is left.
_MOST_LANES: Final = 10_000


def forget_unused(txn: Transaction, batch: int) -> None:
    """Forget valves that are as new, and of queues with very many lanes those of which no job is ready."""
    if txn.row(_VALVE["any"]) is None and txn.row(_STREAM["any_lane"]) is None:
        return
    # What this transaction holds in mind is in the tables first, and read anew after.
    gates_of(txn).write()
    _forget_valves(txn, batch)
    _forget_lanes(txn, batch)
    txn.gates = None


def _forget_valves(txn: Transaction, batch: int) -> None:
    page = txn.rows(_VALVE["next_unused"], (txn.names.valves_swept_to, batch))
    txn.names.valves_swept_to = page[-1][0] if len(page) == batch else 0
    unused = [number for number, is_unused in page if is_unused]
    if unused:
        txn.execute(_VALVE["forget"], (numbers(unused),))


def _forget_lanes(txn: Transaction, batch: int) -> None:
    page = txn.rows(_STREAM["next_unused_lane"], (txn.names.lanes_swept_to, batch, _MOST_LANES))
    txn.names.lanes_swept_to = page[-1][0] if len(page) == batch else 0
    unused = [(number, queue) for number, queue, is_unused in page if is_unused]
    if unused:
        txn.execute(_STREAM["forget_lanes"], (numbers(number for number, _ in unused),))
        fewer = Counter(queue for _, queue in unused)
        txn.many(_STREAM["fewer_lanes"], [(count, queue) for queue, count in fewer.items()])
