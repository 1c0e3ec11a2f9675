"""Runs an example as its reader does: by one command, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]


class Ran(msgspec.Struct, frozen=True):
    """How it ended, what it wrote, and the lines of its table by their first words."""

    code: int
    said: str
    table: dict[str, str]


def run_example(name: str, *arguments: str, url: str = "", within_s: float = 90.0) -> Ran:
    """Run `python -m examples.<name>` and return how it went; whatever it started ends with it.

    Without `url`, on the SQLite file that it makes for itself.
    """
    began_at = time.monotonic()
    environment = {key: value for key, value in os.environ.items() if key != "CICELY_URL"}
    if url:
        environment["CICELY_URL"] = url
    process = subprocess.Popen(
        [sys.executable, "-m", f"examples.{name}", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        written, told = process.communicate(timeout=within_s)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    rows = [re.split(r"  +", line) for line in written.splitlines()]
    print(f"{name}: {time.monotonic() - began_at:.1f} s\n{told}\n{written}")
    return Ran(process.returncode, told + written, {row[0]: row[1] for row in rows if len(row) > 1})
