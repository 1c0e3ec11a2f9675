"""Counts and times the engine calls of a worker's processes: each appends one line to a file.

Only where the environment names that file; an append of one line is whole, whoever else writes.
"""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cicely.engines.contract import Engine

FILE_VARIABLE: Final = "CICELY_BENCH_CALLS"
VERBS: Final = tuple(
    name
    for name, verb in vars(Engine).items()
    if callable(verb) and not name.startswith("_") and name not in ("open", "close", "facts")
)


def install_if_asked() -> None:
    """Count the calls of this process, and of those forked from it, if the environment says so."""
    path = os.environ.get(FILE_VARIABLE)
    if not path:
        return
    from cicely.engines.connect import connect

    engine = type(connect(os.environ["CICELY_URL"]))
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for verb in (verb for verb in VERBS if hasattr(engine, verb)):
        setattr(engine, verb, _counted(getattr(engine, verb), verb, fd))


def _counted(method: Callable[..., Any], verb: str, fd: int) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        began_at = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            os.write(fd, b"%s %.9f\n" % (verb.encode(), time.perf_counter() - began_at))

    return call


def calls(path: Path) -> Counter[str]:
    """Return how often each verb has been called so far."""
    return Counter(verb for verb, _ in _lines(path))


def seconds(path: Path) -> dict[str, float]:
    """Return how long the calls of each verb have taken so far, together."""
    total: dict[str, float] = {}
    for verb, taken_s in _lines(path):
        total[verb] = total.get(verb, 0.0) + taken_s
    return total


def _lines(path: Path) -> list[tuple[str, float]]:
    if not path.exists():
        return []
    words = (line.split() for line in path.read_text().splitlines())
    return [(verb, float(taken_s)) for verb, taken_s in words]
