"""Counts the engine calls of a worker's processes: each appends one line to a file.

Only where the environment names that file; an append of one line is whole, whoever else writes.
"""

from __future__ import annotations

import functools
import os
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
    for verb in VERBS:
        setattr(engine, verb, _counted(getattr(engine, verb), f"{verb}\n".encode(), fd))


def _counted(method: Callable[..., Any], line: bytes, fd: int) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        os.write(fd, line)
        return method(*args, **kwargs)

    return call


def calls(path: Path) -> Counter[str]:
    """Return how often each verb has been called so far."""
    return Counter(path.read_text().split()) if path.exists() else Counter()
