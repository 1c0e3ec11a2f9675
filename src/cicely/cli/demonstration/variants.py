"""The programs that are graded: each problem's solution as it is, and broken in three ways."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from cicely.cli.demonstration.problems import Problem
from cicely.errors import ConfigError


class Variant(StrEnum):
    """What was done to a solution."""

    RIGHT = "right"
    OFF_BY_ONE = "off by one"
    ENDLESS = "endless loop"
    HOG = "memory hog"
    EXIT = "os._exit"


#: What goes before the function's first statement.
_SABOTAGES: Final = {
    Variant.ENDLESS: """
while True:
    pass
""",
    Variant.HOG: """
hoard = []
while True:
    hoard.append(b"x" * 4_000_000)
""",
    Variant.EXIT: """
import os
os._exit(3)
""",
}

#: Only the outermost call is nudged: a recursive function would otherwise change its course.
_NUDGED: Final = '''

def _nudged(value):
    """Return a value near this one and not equal to it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float, complex)):
        return value + 1
    if isinstance(value, (str, bytes, list, tuple)) and value:
        return value[1:]
    if isinstance(value, str):
        return "?"
    if isinstance(value, list):
        return [None]
    if isinstance(value, dict):
        return {**value, None: None}
    if isinstance(value, (set, frozenset)):
        return value ^ {None}
    return 0


def _off_by_one(function):
    depth = 0

    def off_by_one(*args, **kwargs):
        nonlocal depth
        depth += 1
        try:
            value = function(*args, **kwargs)
        finally:
            depth -= 1
        return value if depth else _nudged(value)

    return off_by_one


'''


def variants_of(number: int) -> Sequence[Variant]:
    """Return the four variants of the problem with this number in its file, from 0."""
    wild = Variant.EXIT if number % 2 else Variant.HOG
    return (Variant.RIGHT, Variant.OFF_BY_ONE, Variant.ENDLESS, wild)


def program(problem: Problem, variant: Variant) -> str:
    """Return the source of a variant. Raises ConfigError where the solution is no such function."""
    tree, function = _parsed(problem)
    match variant:
        case Variant.RIGHT:
            return problem.solution
        case Variant.OFF_BY_ONE:
            name = problem.entry_point
            return f"{problem.solution}{_NUDGED}{name} = _off_by_one({name})\n"
        case _:
            start = 0 if ast.get_docstring(function) is None else 1
            function.body[start:start] = ast.parse(_SABOTAGES[variant]).body
            return f"{ast.unparse(tree)}\n"


def _parsed(problem: Problem) -> tuple[ast.Module, ast.FunctionDef]:
    try:
        tree = ast.parse(problem.solution)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{problem.task_id}: prompt and solution are no Python program: {error}") from error
    # The last definition of a name is the one that a call finds.
    for statement in reversed(tree.body):
        if isinstance(statement, ast.FunctionDef) and statement.name == problem.entry_point:
            return tree, statement
    raise ConfigError(f"{problem.task_id}: prompt and solution define no function {problem.entry_point}")
