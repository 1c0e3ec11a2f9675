"""Workflows that keep a GPU from job to job, and others that want one; each notes what it does on which."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from cicely import Cicely, current

app = Cicely("reserving", url=os.environ.get("CICELY_URL") or "memory://")

_NOTES = Path(os.environ.get("CICELY_NOTES", os.devnull))


def note(*words: object) -> None:
    """Append one line, whole."""
    with _NOTES.open("a") as notes:
        notes.write(" ".join(map(str, (*words, time.monotonic()))) + "\n")


def unit() -> str:
    """Return the GPU that this job was given."""
    [mine] = current().resources["gpu"]
    return mine


@app.task(priority=9, resources={"gpu": 1}, isolate=True)
def hold() -> str:
    current().reserve("gpu")
    note("held", unit())
    return unit()


@app.task(priority=9, resources={"gpu": 1})
def step(name: str) -> str:
    """Keep what the workflow has, or what this job was given where its worker is gone."""
    current().reserve("gpu")
    note("begins", name, unit())
    time.sleep(0.4)
    note("ends", name, unit())
    return unit()


@app.task(priority=9)
def think(seconds: float) -> None:
    """Need no GPU for a while: others would take what is not reserved."""
    time.sleep(seconds)


@app.task(priority=9)
def release() -> None:
    note("released")
    current().release("gpu")


@app.task(priority=9)
def dies() -> None:
    note("dies")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(priority=0, resources={"gpu": 1})
def foreign(seconds: float) -> str:
    note("foreign", unit())
    time.sleep(seconds)
    return unit()
