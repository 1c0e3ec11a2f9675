"""What an app declares of its queues, and how it pauses and empties them."""

from __future__ import annotations

from collections.abc import Mapping

from cicely.core import task as core
from cicely.core.job import Filter
from cicely.core.states import State
from cicely.core.task import Registry, Route
from cicely.core.units import Duration, duration_s
from cicely.errors import ConfigError, UnknownQueue
from cicely.jobs import Jobs
from cicely.messages import Queue
from cicely.settings import MAX_QUEUE_PRIORITY, priority_of, queue_name, receives_of


class Queues(Jobs):
    """The part of an app that declares queues, routes to them and steers them."""

    registry: Registry

    def queue(
        self,
        name: str,
        *,
        priority: int | None = None,
        ageing: Duration | None = None,
        max_receives: int | None = None,
        keep: Duration | None = None,
        keep_failed: Duration | None = None,
    ) -> Queue:
        """Declare a queue, or say more about one, and return it.

        `priority` is from 0 to 10, and 10 is served first. With `ageing="1h"` an hour of waiting
        weighs as much as one step of a job's priority. A message is failed after `max_receives`.
        """
        known = self.registry.queues.get(name) or core.Queue(name=queue_name(name))
        self.registry.declare(
            core.Queue(
                name=name,
                priority=(
                    known.priority if priority is None else priority_of(priority, most=MAX_QUEUE_PRIORITY)
                ),
                ageing_s=known.ageing_s if ageing is None else duration_s(ageing, name="ageing"),
                max_receives=known.max_receives if max_receives is None else receives_of(max_receives),
                keep_s=known.keep_s if keep is None else duration_s(keep, name="keep"),
                keep_failed_s=(
                    known.keep_failed_s
                    if keep_failed is None
                    else duration_s(keep_failed, name="keep_failed")
                ),
            )
        )
        return Queue(self._connection, name)

    def route(self, routes: Mapping[str, Route]) -> None:
        """Send tasks to queues: a pattern of names to a queue, or to a function of the arguments.

        The first pattern that matches decides; a function that answers None leaves it to the next.
        """
        if not isinstance(routes, Mapping):
            raise ConfigError(f'app.route({routes!r}): a dict, as in app.route({{"tasks.gpu_*": "gpu"}})')
        for pattern, target in routes.items():
            if not isinstance(pattern, str) or not (callable(target) or queue_name(target)):
                raise ConfigError(f"app.route({{{pattern!r}: {target!r}}}): a pattern and a queue's name")
        self.registry.route(routes)

    def pause_queue(self, name: str) -> None:
        """Hand out nothing of a queue; what runs goes on. Raises UnknownQueue."""
        self._known_queue(name).pause()

    def resume_queue(self, name: str) -> None:
        """Hand out what is in a queue again. Raises UnknownQueue."""
        self._known_queue(name).resume()

    def purge(self, name: str) -> int:
        """Cancel all that has not started in a queue, and return how many; `revive` brings them back.

        What a worker starts at that very moment is asked to end.
        """
        queue = self._known_queue(name)
        waiting = Filter(queue=queue.name, states=(State.READY, State.SCHEDULED, State.WAITING))
        return self.cancel(waiting, reason="purged")

    def _known_queue(self, name: str) -> Queue:
        """Return a queue that is declared here, or that the engine has seen."""
        try:
            self.registry.queue(name)
        except UnknownQueue:
            if name not in {record.name for record in self._connection.call(lambda e: e.queues())}:
                raise
        return Queue(self._connection, name)
