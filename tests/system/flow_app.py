"""Jobs that need a GPU, jobs that do not, and jobs under a limit; each notes when it began and ended."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cicely import Cicely, current

app = Cicely("flow", url=os.environ.get("CICELY_URL") or "memory://")
app.limit("gate", concurrency=3)

_NOTES = Path(os.environ.get("CICELY_NOTES", os.devnull))


def note(*words: object) -> None:
    """Append one line, whole."""
    with _NOTES.open("a") as notes:
        notes.write(" ".join(map(str, words)) + "\n")


@app.task(resources={"gpu": 1})
def on_gpu(name: str, seconds: float) -> list[str]:
    context = current()
    note("gpu-start", name, time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    time.sleep(seconds)
    note("gpu-end", name, time.monotonic())
    return context.resources["gpu"]


@app.task
def on_cpu(n: int) -> int:
    note("cpu", n, time.monotonic())
    return n


@app.task(limits="gate")
def through_the_gate(n: int, seconds: float) -> int:
    note("in", n, time.monotonic(), os.getpid())
    time.sleep(seconds)
    note("out", n, time.monotonic(), os.getpid())
    return n
