"""Flows: any job after any others. `app.flow()` begins one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from cicely.canvas import Canvas
from cicely.composing import NodeArgument, node_in
from cicely.connection import Connection
from cicely.core.job import Filter
from cicely.core.states import State
from cicely.core.units import Duration
from cicely.dispatch import OnProgress, deliver_flow
from cicely.errors import JobEnded, UsageError
from cicely.groups import found_by, handle_of
from cicely.handles import Job
from cicely.orders import fresh_id
from cicely.settings import rule_of
from cicely.workflow.graph import GraphNode, in_order
from cicely.workflow.nodes import Ref, calls_of, check_size
from cicely.workflow.outline import Outline, all_of
from cicely.workflows import Workflow


class FlowNode(NodeArgument):
    """A node of a flow: as an argument of another node's signature it stands for its result."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Name the node."""
        return f"<node {self.name}>"


#: Ends that are no success. What was cancelled because of another node stands for that one's end.
_UNWELL: Final = (State.FAILED, State.EXPIRED, State.CANCELLED)


class FlowRun(Workflow):
    """A flow that was enqueued: its workflow, and the handle of each node by `run[node]`."""

    __slots__ = ("_outlines",)

    def __init__(self, connection: Connection, workflow_id: str, outlines: dict[str, Outline]) -> None:
        super().__init__(connection, workflow_id)
        self._outlines = outlines

    def __getitem__(self, node: FlowNode | str) -> Any:
        """Return the handle of a node, by itself or its name: a Job, or a GroupJob."""
        name = node if isinstance(node, str) else node.name
        if name not in self._outlines:
            raise KeyError(name)
        return handle_of(self._connection, self._outlines[name])

    def get(self, timeout: Duration | None = None, *, allow_blocking: bool = False) -> Any:
        """Wait for the result and return it: that of the nodes nothing comes after, a list of several.

        Raises the first failure in the order of the nodes, also one behind which a node that comes
        after any end succeeded. Else raises as `Job.get` does.
        """
        try:
            value = super().get(timeout, allow_blocking=allow_blocking)
        except JobEnded:
            self._raise_first_failure()
            raise
        self._raise_first_failure()
        return value

    async def aget(self, timeout: Duration | None = None, *, allow_blocking: bool = False) -> Any:
        """As `get`, for coroutines."""
        import asyncio

        try:
            value = await super().aget(timeout, allow_blocking=allow_blocking)
        except JobEnded:
            await asyncio.to_thread(self._raise_first_failure)
            raise
        await asyncio.to_thread(self._raise_first_failure)
        return value

    def _raise_first_failure(self) -> None:
        ids = {job_id: None for outline in self._outlines.values() for job_id in all_of(outline)}
        where = Filter(workflow=self.id, states=_UNWELL)
        unwell = {record.id: record for record in found_by(self._connection, where)}
        for job_id in ids:
            record = unwell.get(job_id)
            if record is not None and record.cause not in ids:
                Job[Any](self._connection, job_id).value_of(record)


class Flow:
    """Canvases as the nodes of a graph, to be enqueued together. Made by `app.flow()`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._id = fresh_id()
        self._nodes: dict[str, GraphNode] = {}
        self._counts: dict[str, int] = {}

    def __repr__(self) -> str:
        """Count its nodes."""
        return f"Flow({len(self._nodes)} nodes)"

    def add(
        self,
        canvas: Canvas[Any],
        *,
        name: str = "",
        after: FlowNode | str | Iterable[FlowNode | str] = (),
        on: str = "success",
    ) -> FlowNode:
        """Add a signature, chain, group or chord as a node, and return the node.

        It comes after each node among its arguments, whose result it is given, and after each of
        `after`, nodes or names of nodes that may be added later: by their "success" (all of them), by
        their "failure" (all; it is given job id, error and traceback of the first), or when they are
        "done" however that was. Raises UsageError for a name that is taken.
        """
        node = node_in(canvas, "flow.add")
        check_size(node)
        name = name or self._free_name(node)
        if name in self._nodes:
            raise UsageError(f"two nodes of the flow are called {name!r}")
        for call in calls_of(node):
            for value in (*call.args, *call.kwargs.values()):
                if isinstance(value, Ref) and value.graph != self._id:
                    raise UsageError(
                        f"an argument of {call.task} is the node {value.keys[0]!r} of another flow"
                    )
        names = tuple(self._name_of(one) for one in _listed(after))
        self._nodes[name] = GraphNode(name=name, node=node, after=names, on=rule_of(on))
        return FlowNode(self._id, name)

    def _free_name(self, node: Any) -> str:
        call = next(calls_of(node), None)
        word = call.task.rpartition(".")[2] if call is not None else "nothing"
        while True:
            count = self._counts[word] = self._counts.get(word, 0) + 1
            name = word if count == 1 else f"{word}-{count}"
            if name not in self._nodes:
                return name

    def _name_of(self, node: FlowNode | str) -> str:
        if isinstance(node, str):
            return node
        if not isinstance(node, FlowNode):
            raise UsageError(f"after={node!r}: a node of this flow, its name, or a list of them")
        if node.graph != self._id:
            raise UsageError(f"after= names the node {node.name!r} of another flow")
        return node.name

    def check(self) -> None:
        """Raise UsageError for an unknown name, or for a cycle, which it names, or for too many jobs."""
        if not self._nodes:
            raise UsageError("a flow of nothing has no result: add() a signature to it")
        in_order(self._nodes.values())
        check_size(*(node.node for node in self._nodes.values()))

    def delay(self, *, on_progress: OnProgress | None = None) -> FlowRun:
        """Enqueue the flow and return its handle.

        Up to 1,000 jobs are stored all or none; more are written in pages, and none begins before all
        are; `on_progress` is told after each how many were sent, of how many. Raises as `check` does, and
        as `Signature.delay`.
        """
        self.check()
        ordered = in_order(self._nodes.values())
        workflow, outlines = deliver_flow(self._connection, ordered, on_progress)
        return FlowRun(self._connection, workflow, outlines)

    async def adelay(self, *, on_progress: OnProgress | None = None) -> FlowRun:
        """As `delay`, without blocking the event loop; `on_progress` is called in another thread."""
        import asyncio

        return await asyncio.to_thread(self.delay, on_progress=on_progress)


def _listed(value: Any) -> Iterable[Any]:
    return (value,) if isinstance(value, str | FlowNode) else value
