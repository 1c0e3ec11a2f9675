"""The first lines of a worker, for the people who started it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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
        f"worker {name}: {_processes(options)} processes of {options.threads} threads, "
        f"queues {queues}, lease {options.lease_s:g} s",
        *_offered(options),
        f"memory limits: {memory_limits}",
    ]
    lines += [f"warning: {warning}" for warning in facts.warnings]
    if threads_of_app:
        running = ", ".join(threads_of_app)
        lines.append(f"importing the app starts threads ({running}): each child imports it again")
    return lines


def _processes(options: WorkerOptions) -> str:
    rule = options.scale
    return str(rule.least) if rule.least == rule.most else f"{rule.least} to {rule.most}"


def _offered(options: WorkerOptions) -> Iterator[str]:
    """Say what its jobs share and which it leaves to others: what was misread shows here."""
    if options.offers:
        yield f"offers {'; '.join(_units(name, units) for name, units in sorted(options.offers.items()))}"
    if options.accepts:
        tags = (f"{name}={value}" for name, values in sorted(options.accepts.items()) for value in values)
        yield f"accepts {', '.join(tags)}, and jobs without such a tag"


def _units(name: str, units: Mapping[str, float]) -> str:
    if set(units) == {""}:
        return f"{name} {units['']:g}"
    named = ", ".join(unit if holds == 1 else f"{unit} of {holds:g}" for unit, holds in units.items())
    return f"{name}: {'units' if len(units) > 1 else 'unit'} {named}"
