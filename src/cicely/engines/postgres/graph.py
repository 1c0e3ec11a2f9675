"""Jobs that come after others, as they are stored: what edges say, nodes, and how ends count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from cicely.core.edge import Fate, fate_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction, state_of

_SQL: Final = statements("graph")

#: The traits of a job: edges out of it, a node, labels, steps. A plain job has none.
OUT: Final = 1
NODE: Final = 2
LABEL: Final = 4
STEPS: Final = 8
#: That others depend on it, or it on them.
LINKED: Final = OUT | NODE | LABEL | STEPS
#: It stands in a stream, and in another than its flow says: it shuns a worker, or draws what is reserved.
GATED: Final = 16
APART: Final = 32
#: Of a claim: it took something beside its job, to be given back.
HOLDS: Final = 64
#: Each of its starts and successes is told.
WATCHED: Final = 128
#: It is of a workflow and wants resources, of which its workflow may have reserved some.
DRAWS: Final = 256


#: The node of a child that waits for more than so many is not locked by those that it waits for.
MOST_AWAITED: Final = 16


class Link(msgspec.Struct, gc=False, frozen=True):
    """An edge as it is stored."""

    id: int
    parent: int
    child: int
    traits: int
    held: bool | None = None


class End(msgspec.Struct, gc=False, frozen=True):
    """How a job's end counts for those after it; `cause` is the job where that began, perhaps itself."""

    n: int
    fate: Fate
    cause: str


class Node(msgspec.Struct, gc=False):
    """What decides whether a job waits, in the order of the statement `nodes`."""

    n: int
    waits: bool
    held: bool
    pending: int
    broken: int
    joins: int
    passes: bool
    cause: str | None
    event: str | None
    event_step: str | None

    @property
    def is_free(self) -> bool:
        """Whether it waits for no job and no publication."""
        return self.pending == 0 and not self.held


class Nodes:
    """Nodes that this transaction has locked, and changes before it writes them."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._known: dict[int, Node] = {}
        self._touched: set[int] = set()

    def get(self, n: int) -> Node | None:
        """Return a node that was locked."""
        return self._known.get(n)

    def lock(self, ns: Iterable[int]) -> None:
        """Lock the nodes of these jobs, and take in what has arrived at them."""
        wanted = sorted({n for n in ns if n not in self._known})
        if not wanted:
            return
        self._keep(self._txn.rows(_SQL["nodes"], {"ns": wanted}))
        self.fold([n for n in wanted if n in self._known])

    def lock_free(self, ns: Iterable[int]) -> None:
        """Lock those nodes that nobody else has, and that wait for few."""
        wanted = sorted({n for n in ns if n not in self._known})
        if wanted:
            self._keep(self._txn.rows(_SQL["free_nodes"], {"ns": wanted, "most": MOST_AWAITED}))

    def _keep(self, rows: Sequence[Sequence[object]]) -> None:
        for row in rows:
            node = Node(*row)  # type: ignore[arg-type]
            self._known[node.n] = node

    def fold(self, ns: Sequence[int]) -> None:
        """Count what has arrived at nodes that are locked here."""
        for n, held in self._txn.rows(_SQL["fold"], {"ns": list(ns)}) if ns else ():
            self.decided(self._known[n], is_held=held)

    def decided(self, node: Node, *, is_held: bool) -> None:
        """Count an edge into a job that was decided."""
        node.pending -= 1
        node.broken += not is_held
        self._touched.add(node.n)
        if node.pending:
            # What arrived meanwhile may be all that is left: somebody has to look after this commit.
            self._txn.arrived.add(node.n)

    def undecided(self, node: Node, *, was_held: bool | None) -> None:
        """Count an edge into a job that was decided so, and is not any more."""
        node.pending += 1
        node.broken -= was_held is False
        self._touched.add(node.n)

    def touch(self, node: Node) -> None:
        """Have a node written."""
        self._touched.add(node.n)

    def forget(self, ns: Iterable[int]) -> None:
        """Write what is open, and read these nodes anew when they are wanted."""
        self.write()
        for n in ns:
            self._known.pop(n, None)

    def write(self) -> None:
        """Write the nodes that were changed."""
        nodes = [self._known[n] for n in sorted(self._touched)]
        self._touched.clear()
        if nodes:
            names = ("n", "waits", "held", "pending", "broken", "joins", "passes", "cause")
            columns = {name: [getattr(node, name) for node in nodes] for name in names}
            self._txn.execute(_SQL["node_write"], columns)


def end_of(txn: Transaction, n: int) -> End:
    """Return how the end of a job counts; one that is gone counts as remembered."""
    row = txn.row(_SQL["origin"], {"n": n})
    _, job_id, state, passes, cause, tomb = row or (n, "", None, False, "", None)
    if state is not None:
        return End(n, Fate.FAILURE if passes else fate_of(state_of(state)), cause or job_id)
    return End(n, Fate.FAILURE if tomb is None else fate_of(state_of(tomb)), cause or job_id)


def flag(txn: Transaction, ns: Sequence[int], traits: int) -> None:
    """Note on the rows of jobs what else belongs to them."""
    if ns:
        txn.execute(_SQL["flag"], {"ns": list(ns), "traits": traits})


def ensure_nodes(txn: Transaction, ns: Sequence[int]) -> None:
    """Give nodes to jobs that have none."""
    if ns:
        txn.execute(_SQL["node_add"], {"ns": sorted(ns)})
        flag(txn, ns, NODE)
