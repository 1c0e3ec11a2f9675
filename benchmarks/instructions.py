"""Counts the instructions of a producer's process with valgrind: a cost that a neighbour hardly changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: Two runs that differ in their jobs alone: what is left is the cost of so many jobs.
_FEW: Final = 100
_MANY: Final = 1_100
_LIMIT_S: Final = 300.0


class NoValgrind(RuntimeError):
    """The program is not on the path."""


def instructions_of_delay(environment: Mapping[str, str], folder: Path) -> int:
    """Return the instructions of one `delay`, its share of everything that its process does meanwhile."""
    few, many = (_instructions(count, environment, folder) for count in (_FEW, _MANY))
    return round((many - few) / (_MANY - _FEW))


def _instructions(count: int, environment: Mapping[str, str], folder: Path) -> int:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise NoValgrind("valgrind is not on the path; leave out --instructions, or install it")
    words = [valgrind, "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={folder}/cachegrind"]
    words += [sys.executable, "-m", "benchmarks.producer", "single", str(count), str(_LIMIT_S)]
    # Hashes of strings decide how often dictionaries collide.
    own = {**os.environ, **environment, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        words, input="go\n", capture_output=True, text=True, check=True, env=own, timeout=_LIMIT_S
    )
    return refs_of(done.stderr)


def refs_of(said: str) -> int:
    """Return what cachegrind says that was executed; `ValueError` if it says nothing of it."""
    found = re.search(r"I\s+refs:\s+([\d,]+)", said)
    if found is None:
        raise ValueError(f"no count of instructions in what valgrind said: {said[-200:]!r}")
    return int(found.group(1).replace(",", ""))
