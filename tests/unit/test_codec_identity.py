"""Ids that follow from the arguments are the same in every process; the others follow the clock."""

import ast
import dataclasses
import datetime as dt
import math
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from cicely.core.canonical import canonical
from cicely.core.identity import new_id, stable, stable_id
from cicely.errors import ConfigError, NotStorable

REQUEST = """(
    "evals.run",
    ("eval-1", 3, 2.5, None, {"b", "a", ("c", 1)}, b"x"),
    {"rows": {"z": [True], "a": {"k": {1, 2, 3}}}, "model": "m"},
    "v1",
)"""
ID_OF_REQUEST = "3959bc4d7eb17e705ee5db8a77cb1ace"


@dataclasses.dataclass
class Point:
    x: int
    y: int


def test_a_fixed_request_has_a_fixed_id():
    assert stable_id(*ast.literal_eval(REQUEST)) == ID_OF_REQUEST


def test_the_id_does_not_depend_on_the_seed_of_a_process():
    program = f"from cicely.core.identity import stable_id; print(stable_id(*{REQUEST}))"
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"

    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout

    assert printed.strip() == ID_OF_REQUEST


@pytest.mark.parametrize(
    "request_",
    [
        ("evals.other", (1,), {}, "v1"),
        ("evals.run", (2,), {}, "v1"),
        ("evals.run", (1,), {"x": 1}, "v1"),
        ("evals.run", (), {"x": 1}, "v1"),
        ("evals.run", (1,), {}, "v2"),
        ("evals.run", ((1,),), {}, "v1"),
    ],
)
def test_another_request_has_another_id(request_):
    assert stable_id(*request_) != stable_id("evals.run", (1,), {}, "v1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
        ({(1, 2): 1, "a": 2}, {"a": 2, (1, 2): 1}),
        (set("abcdefgh"), set("hgfedcba")),
        ({1, 2}, frozenset({2, 1})),
        (0.0, -0.0),
        (math.nan, -math.nan),
        (complex(0.0, -0.0), complex(-0.0, 0.0)),
        (Decimal("1.50"), Decimal("1.5")),
        (Decimal("100"), Decimal("1E+2")),
        (Decimal("0"), Decimal("-0E+7")),
        (
            dt.datetime(2024, 6, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
            dt.datetime(2024, 6, 1, 10, tzinfo=dt.UTC),
        ),
        (b"x", bytearray(b"x")),
        (b"x", memoryview(b"x")),
        (3, np.int64(3)),
        (1.5, np.float64(1.5)),
        (np.arange(3, dtype="<i4"), np.arange(3, dtype=">i4")),
        (np.ones((2, 2)), np.asfortranarray(np.ones((2, 2)))),
        (Point(1, 2), {"y": 2, "x": 1}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_equal_values_have_the_same_canonical_bytes(one, other):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        ("a", b"a"),
        ([1], (1,)),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 2}),
        (Decimal("1"), Decimal("10")),
        (Decimal("1"), Decimal("-1")),
        (dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        ("a", Path("a")),
        (Path("a"), PurePosixPath("b")),
        (np.zeros(2), np.zeros(2, dtype="f4")),
        (np.zeros((2, 3)), np.zeros((3, 2))),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_different_values_have_different_canonical_bytes(one, other):
    assert canonical(one) != canonical(other)


def test_what_cannot_be_stored_has_no_id():
    with pytest.raises(NotStorable, match=r"stable id of evals\.run: \[1\]\[0\] is a lambda"):
        stable_id("evals.run", (lambda: 0,), {}, "v1")


@pytest.mark.parametrize("version", ["", 1, None])
def test_a_stable_version_is_a_text(version):
    with pytest.raises(ConfigError, match="stable"):
        stable(version)


def test_stable_keeps_its_version():
    assert stable("v1").version == "v1"


def test_new_ids_sort_by_time():
    ids = [new_id(ms, bytes([255 - n] * 10)) for n, ms in enumerate([0, 1, 255, 256, 2**40, 2**47])]

    assert ids == sorted(ids)
    assert {len(id_) for id_ in ids} == {32}
    assert new_id(1_700_000_000_000, b"0123456789") == "018bcfe5680030313233343536373839"


def test_a_new_id_needs_all_its_chance():
    with pytest.raises(ValueError, match="10 random bytes"):
        new_id(0, b"short")


def test_importing_the_codec_does_not_import_numpy_or_pydantic():
    program = (
        "import sys, cicely.core.codec, cicely.core.identity;"
        "print([m for m in ('numpy', 'pydantic', 'pickle', 'asyncio', 'zoneinfo') if m in sys.modules])"
    )

    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout

    assert printed.strip() == "[]"
