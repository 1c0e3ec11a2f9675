"""Enqueueing a workflow: its jobs are made as they are sent, page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cicely.connection import Connection, Way
from cicely.core.edge import Edge
from cicely.core.identity import Stable, stable_id
from cicely.core.job import Enqueued, NewJob
from cicely.core.task import Task
from cicely.core.values.inputs import Inputs
from cicely.errors import UsageError
from cicely.orders import Order, fresh_id
from cicely.settings import id_of, job_options
from cicely.values import Values
from cicely.workflow.build import Builder, Jobs
from cicely.workflow.graph import GraphNode, graph_jobs, references_of
from cicely.workflow.nodes import Call, Node, calls_of, check_size
from cicely.workflow.outline import Outline, renamed
from cicely.workflow.written import Written, written

#: Is told how many jobs were sent so far, of how many (None: that is not known).
OnProgress = Callable[[int, int | None], object]


class CallMaker:
    """Makes the jobs of calls, as `delay` would."""

    def __init__(self, connection: Connection, values: Values) -> None:
        self._connection = connection
        self._values = values
        self._orders: dict[str, tuple[Mapping[str, Any], Order]] = {}

    def takes(self, call: Call, count: int) -> bool:
        """Return whether the task takes `count` arguments before the call's own."""
        try:
            self.task(call.task).bind_arguments((None,) * count + call.args, call.kwargs)
        except TypeError:
            return False
        return True

    def chosen_id(self, call: Call, options: Mapping[str, Any], parents: tuple[str, ...]) -> str:
        """Return the id that a person chose; a stable one follows from the jobs before as well."""
        chosen = id_of(options["id"])
        if not isinstance(chosen, Stable):
            return chosen
        args = tuple(_identity(arg, parents) for arg in call.args)
        kwargs = {name: _identity(value, parents) for name, value in call.kwargs.items()}
        order = self._order(call, options)
        return order.stable_id(args, kwargs, version=chosen.version, values=self._values)

    def identity(self, call: Call | None, options: Mapping[str, Any]) -> str:
        """Return what tells a call with a chosen id from others with one; "" where none is chosen."""
        if call is None or "id" not in options:
            return ""
        chosen = id_of(options["id"])
        if not isinstance(chosen, Stable):
            return chosen
        own = self._values.codec.own
        return stable_id(call.task, call.args, call.kwargs, chosen.version, own=own)

    def make(self, call: Call, options: Mapping[str, Any], *, job_id: str) -> NewJob:
        """Return the job of a call. Raises TypeError, NotStorable and ConfigError."""
        order = self._order(call, options)
        kwargs = dict(call.kwargs)
        if "id" in options:
            return order.new_job(call.args, kwargs, self._values, job_id=job_id)
        return order.new_job(call.args, kwargs, self._values, new_id=job_id)

    def task(self, name: str) -> Task:
        """Return a task by name. Raises UnknownTask with the nearest name."""
        return self._connection.task(name) or self._connection.registry.task(name)

    def _order(self, call: Call, options: Mapping[str, Any]) -> Order:
        known = self._orders.get(call.task)
        # Most calls of one task have the same options, which need parsing once.
        if known is not None and (known[0] is options or known[0] == options):
            return known[1]
        given = {name: value for name, value in options.items() if name not in ("after", "on")}
        order = Order(self.task(call.task), job_options(given), self._connection.registry)  # type: ignore[arg-type]
        self._orders[call.task] = (options, order)
        return order


def _identity(value: Any, parents: tuple[str, ...]) -> Any:
    if not isinstance(value, Inputs):
        return value
    return ["results of", list(parents), value.part.value, repr(value.shape)]


def deliver_node(
    connection: Connection, way: Way, node: Node, on_progress: OnProgress | None = None
) -> Outline:
    """Enqueue a canvas as one workflow; return its outline.

    Up to 1,000 jobs are stored all or none. More are stored in pages, and begin when all are.
    """
    total = check_size(node)
    maker = CallMaker(connection, way.values)
    for call in calls_of(node):
        maker.task(call.task)
        refuse_references(call)
    builder = Builder(maker, fresh_id)
    builder.name(node)
    result = _deliver(_Sender(way, total, on_progress), builder, builder.whole(node))
    return renamed(result.outline, result.names)


def deliver_flow(
    connection: Connection, ordered: list[GraphNode], on_progress: OnProgress | None = None
) -> tuple[str, dict[str, Outline]]:
    """Enqueue a flow's nodes, which are in order; return its workflow's id and the nodes' outlines."""
    total = check_size(*(node.node for node in ordered))
    maker = CallMaker(connection, connection.values)
    for node in ordered:
        for call in calls_of(node.node):
            maker.task(call.task)
    builder = Builder(maker, fresh_id, workflow=fresh_id())
    sender = _Sender(connection, total, on_progress)
    names = _deliver(sender, builder, graph_jobs(builder, ordered)).names
    return builder.workflow, {key: renamed(outline, names) for key, outline in builder.outlines.items()}


def refuse_references(call: Call) -> None:
    """Raise UsageError for a call that has a flow's node as an argument."""
    name = next(references_of(call), None)
    if name is not None:
        raise UsageError(f"an argument of {call.task} is the node {name!r} of a flow: add this to the flow")


def _deliver(sender: _Sender, builder: Builder, jobs: Jobs) -> Written:
    """Enqueue the jobs of a workflow; what is held begins when all is written."""
    result = written(jobs, sender.enqueue)
    if result.is_held:
        sender.way.publish(builder.workflow)
    return result


class _Sender:
    """Enqueues page after page, and says how far it is."""

    def __init__(self, way: Way, total: int, on_progress: OnProgress | None) -> None:
        self.way = way
        self._total = total
        self._on_progress = on_progress
        self._sent = 0

    def enqueue(self, page: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        answers = [_Answer(job.id) for job in page]
        self.way.send_all(list(zip(page, answers, strict=True)), edges)
        self._sent += len(page)
        if self._on_progress is not None:
            self._on_progress(self._sent, self._total)
        return [Enqueued(answer.id, fresh=True) for answer in answers]


class _Answer:
    """Learns which job stands for one that was enqueued."""

    __slots__ = ("id",)

    def __init__(self, job_id: str) -> None:
        self.id = job_id
