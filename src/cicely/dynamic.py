"""What a running job adds to the world, for the worker that runs it."""

from __future__ import annotations

from typing import Any

from cicely.canvas import Canvas
from cicely.connection import Connection
from cicely.core.job import Claim
from cicely.dispatch import CallMaker, refuse_references
from cicely.groups import handle_of
from cicely.iteration import GATHER
from cicely.values import Values
from cicely.workflow.dynamic import Called, added_to_group, called
from cicely.workflow.nodes import Node, calls_of
from cicely.workflow.written import Enqueue


class Additions:
    """Writes what a running job asks for, by the `enqueue` and the `values` of its worker."""

    def __init__(self, connection: Connection, claim: Claim, values: Values, *, enqueue: Enqueue) -> None:
        self._connection = connection
        self._claim = claim
        self._enqueue = enqueue
        self._maker = CallMaker(connection, values)

    def names(self, canvas: Canvas[object]) -> str:
        """Return the tasks of a canvas, each once, in the order in which they are found."""
        return ", ".join(dict.fromkeys(call.task for call in calls_of(canvas.node)))

    def called(self, canvas: Canvas[object], *, calls: int) -> Called:
        """Write a canvas that the job called or returned; `calls` jobs were called before.

        Nothing of it begins until the job suspends with what this returns.
        """
        node = self._checked(canvas)
        return called(node, self._maker, self._enqueue, claim=self._claim, calls=calls, gather=GATHER)

    def added(self, canvas: Canvas[object], *, number: int) -> Any:
        """Add a canvas to the job's group and return its handle; `number` counts the job's additions."""
        node = self._checked(canvas)
        outline = added_to_group(node, self._maker, self._enqueue, claim=self._claim, number=number)
        return handle_of(self._connection, outline)

    def _checked(self, canvas: Canvas[object]) -> Node:
        for call in calls_of(canvas.node):
            self._maker.task(call.task)
            refuse_references(call)
        return canvas.node
