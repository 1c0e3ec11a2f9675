"""The profile names functions: each of them is there, or a part of the time would be "elsewhere"."""

from pathlib import Path

import pytest
from benchmarks import stages

ROOT = Path(__file__).parents[2]
SOURCE = "\n".join(
    file.read_text()
    for folder in ("src/cicely", "benchmarks")
    for file in (ROOT / folder).rglob("*.py")
    if file.name != "stages.py"
)
NAMED = sorted(set().union(stages.RUN, stages.TALK, *stages.CLERK.values(), *stages.DELAY.values()))


@pytest.mark.parametrize("function", NAMED)
def test_a_named_function_is_there(function: str) -> None:
    owner, _, name = function.rpartition(".")

    assert f"def {name}(" in SOURCE
    assert not owner or f"class {owner.partition('.')[0]}" in SOURCE


def test_a_sample_belongs_to_the_innermost_function_that_is_named() -> None:
    frames = ["Clerk._serve\tclerk.py", "settle\tsettling.py", "execute\tcursor.py"]

    assert stages.stage_of(frames, stages.CLERK["sqlite"]).startswith("settle")
    assert stages.stage_of(["main\t__main__.py"], stages.RUN) == "elsewhere"
