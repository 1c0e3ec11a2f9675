"""The samples: sums with their answers, and the model that is evaluated: it knows no precedence."""

from __future__ import annotations

import operator
import random
import time

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
#: What asking a model takes.
ANSWER_S = 0.02


class BrokenSample(ValueError):
    """The sample cannot be put to a model: trying again is of no use."""


def made(size: int, *, broken: int) -> list[dict[str, str]]:
    """Return so many samples. The one of the number `broken` has lost its question."""
    chance = random.Random(11)
    samples = [_sample(chance) for _ in range(size)]
    samples[broken]["question"] = ""
    return samples


def _sample(chance: random.Random) -> dict[str, str]:
    a, b, c = (chance.randint(2, 99) for _ in range(3))
    first, second = chance.choice("+-*"), chance.choice("+-*")
    left = OPERATIONS[first](a, b)
    right = OPERATIONS[second](b, c)
    value = OPERATIONS[first](a, right) if second == "*" else OPERATIONS[second](left, c)
    return {"question": f"{a} {first} {b} {second} {c}", "answer": str(value)}


def is_right(sample: dict[str, str]) -> bool:
    """Put a sample to the model and say whether its answer is right. Raises BrokenSample."""
    if not sample["question"]:
        raise BrokenSample(f"no question for the answer {sample['answer']}")
    return model(sample["question"]) == sample["answer"]


def model(question: str) -> str:
    """Answer a sum from left to right, as pocket calculators did."""
    time.sleep(ANSWER_S)
    first, *rest = question.split()
    value = int(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        value = OPERATIONS[sign](value, int(number))
    return str(value)
