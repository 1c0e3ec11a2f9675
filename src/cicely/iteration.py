"""The tasks behind `task.map` and `task.starmap`: one job that calls a function for each of many items.

Every app knows them. What they name is looked up in the app that runs them, as any task is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from cicely.core.task import Limits, Task, TaskOptions
from cicely.errors import UnknownTask
from cicely.worker.attempt import fitting

MAP: Final = "cicely.map"
STARMAP: Final = "cicely.starmap"
GATHER: Final = "cicely.gather"

Resolve = Callable[[str], Task | None]


def builtin_tasks(resolve: Resolve) -> dict[str, Task]:
    """Return the tasks that every app has, by name."""

    def run_map(task: str, items: Sequence[Any]) -> list[Any]:
        return _results(resolve, task, [(item,) for item in items])

    def run_starmap(task: str, items: Sequence[Sequence[Any]]) -> list[Any]:
        return _results(resolve, task, [tuple(item) for item in items])

    async def run_map_async(task: str, items: Sequence[Any]) -> list[Any]:
        return await _awaited(resolve, task, [(item,) for item in items])

    async def run_starmap_async(task: str, items: Sequence[Sequence[Any]]) -> list[Any]:
        return await _awaited(resolve, task, [tuple(item) for item in items])

    def run_gather(values: list[Any]) -> list[Any]:
        return values

    functions: dict[str, Callable[..., Any]] = {
        MAP: run_map,
        STARMAP: run_starmap,
        f"{MAP}_async": run_map_async,
        f"{STARMAP}_async": run_starmap_async,
        GATHER: run_gather,
    }
    return {name: Task(name, function, TaskOptions()) for name, function in functions.items()}


def _results(resolve: Resolve, name: str, calls: list[tuple[Any, ...]]) -> list[Any]:
    task = _task(resolve, name)
    results = []
    for call in calls:
        args, kwargs = fitting(task, call, {})
        results.append(task.function(*args, **kwargs))
    return results


async def _awaited(resolve: Resolve, name: str, calls: list[tuple[Any, ...]]) -> list[Any]:
    task = _task(resolve, name)
    results = []
    for call in calls:
        args, kwargs = fitting(task, call, {})
        results.append(await task.function(*args, **kwargs))
    return results


def _task(resolve: Resolve, name: str) -> Task:
    task = resolve(name)
    if task is None:
        raise UnknownTask(f"no task is called {name} in the app of this worker")
    return task


def settings_for(task: Task) -> dict[str, Any]:
    """Return the options of a job that calls `task` many times: what the task says of one."""
    options: dict[str, Any] = {"priority": task.options.priority}
    if task.options.queue:
        options["queue"] = task.options.queue
    if task.options.tags:
        options["tags"] = list(task.options.tags)
    limits: Limits = task.options.limits
    given = {
        "timeout": limits.timeout_s,
        "soft_timeout": limits.soft_timeout_s,
        "stall_timeout": limits.stall_timeout_s,
        "memory": limits.memory_bytes,
    }
    options |= {name: value for name, value in given.items() if value is not None}
    return options | ({"isolate": True} if limits.isolate else {})


def name_for(kind: str, task: Task) -> str:
    """Return the task that calls `task` for each item; coroutine functions have one of their own."""
    return f"{kind}_async" if task.is_async else kind
