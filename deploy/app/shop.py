"""The app that these files run: put your own in its place."""

from __future__ import annotations

import time

from cicely import Cicely

app = Cicely("shop")


@app.task
def square(number: int) -> int:
    """Return the square of a number."""
    return number * number


@app.task
def nap(seconds: float) -> float:
    """Take so long, and say how long."""
    time.sleep(seconds)
    return seconds
