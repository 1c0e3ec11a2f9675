"""The first lines of a worker, for the people who started it."""

from __future__ import annotations

from collections.abc import Sequence

from cicely.engines.contract import Facts
from cicely.worker.options import WorkerOptions
from cicely.worker.queues import Groups


def first_lines(
    facts: Facts,
    options: WorkerOptions,
    *,
    name: str,
    groups: Groups,
    memory_limits: str,
    threads_of_app: Sequence[str],
) -> list[str]:
    """Say where this worker's jobs live, what an accepted call survives, and how it runs them.

    `memory_limits`: how they are kept, in words. `threads_of_app`: the threads that importing the app
    has started, by name.
    """
    queues = ", ".join(queue for group in groups for queue, _ in group)
    lines = [
        f"{facts.engine} {facts.version} at {facts.address}",
        f"durability: {facts.durability}",
        f"worker {name}: {options.processes} processes of {options.threads} threads, "
        f"queues {queues}, lease {options.lease_s:g} s",
        f"memory limits: {memory_limits}",
    ]
    lines += [f"warning: {warning}" for warning in facts.warnings]
    if threads_of_app:
        running = ", ".join(threads_of_app)
        lines.append(f"importing the app starts threads ({running}): each child imports it again")
    return lines
