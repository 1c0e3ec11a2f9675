"""Plain functions as tasks: a name in a job leads to one only inside the packages that the app lists."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any

from cicely.core.task import Task, TaskOptions
from cicely.errors import ConfigError, UsageError
from cicely.place import importable_name


class Functions:
    """The functions that jobs may name without a decorator.

    `packages` are names of packages or modules. Those that are listed are imported when they are
    first asked for; of what lies in them, whatever the program imported counts.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = tuple(packages)
        self._inside = tuple(f"{package}." for package in self.packages)
        self._tasks: dict[str, Task] = {}

    def task_of(self, function: Callable[..., Any]) -> Task:
        """Return the task that `function` makes. Raises UsageError where no worker could find it."""
        name = name_of(function)
        known = self._tasks.get(name)
        if known is not None and known.function is function:
            return known
        module_name = importable_name(function.__module__)
        if not self._covers(module_name):
            raise UsageError(
                f"{name} lies outside {', '.join(self.packages) or 'every package'}, where workers look "
                f'for functions; add functions_from=["{module_name.partition(".")[0]}"] to Cicely(...), '
                "or decorate it with @app.task"
            )
        task = self._tasks[name] = Task(name, function, TaskOptions())
        return task

    def resolve(self, name: str) -> Task | None:
        """Return the task of this name, or None; never imports a module that is not listed."""
        known = self._tasks.get(name)
        if known is None:
            known = next((task for task in self.all() if task.name == name), None)
        return known

    def all(self) -> Iterator[Task]:
        """Yield a task for every function that is defined in a covered module."""
        for module_name, module in self._modules():
            for function in vars(module).copy().values():
                if not isinstance(function, FunctionType) or function.__module__ != module.__name__:
                    continue
                name = f"{module_name}.{function.__qualname__}"
                if "<" in name:
                    continue
                known = self._tasks.get(name)
                if known is None or known.function is not function:
                    known = self._tasks[name] = Task(name, function, TaskOptions())
                yield known

    def _modules(self) -> Iterator[tuple[str, ModuleType]]:
        for package in self.packages:
            if package not in sys.modules and importable_name("__main__") != package:
                _import(package)
        for name, module in sys.modules.copy().items():
            importable = importable_name(name)
            if self._covers(importable) and isinstance(module, ModuleType):
                yield importable, module

    def _covers(self, module_name: str) -> bool:
        return module_name in self.packages or module_name.startswith(self._inside)


def _import(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f'functions_from=["{package}"]: it cannot be imported: {error}') from error


def name_of(function: Callable[..., Any]) -> str:
    """Return the name by which a worker finds `function`. Raises UsageError where there is none."""
    name = getattr(function, "__qualname__", "")
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if not isinstance(function, FunctionType) or not name or module is None:
        raise UsageError(f"{function!r} is no plain function; wrap it in one, at the top of a module")
    if "<" in name:
        what = "a lambda" if name.endswith("<lambda>") else "a function inside a function"
        raise UsageError(f"{name} is {what}, which no worker can import; move it to the top of a module")
    if getattr(module, name, None) is not function:
        raise UsageError(
            f"{module.__name__}.{name} is not this function, so a worker would run another one; "
            "give it a name of its own at the top of a module"
        )
    return f"{importable_name(module.__name__)}.{name}"
