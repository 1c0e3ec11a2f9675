"""A decoded value becomes what the hint asks for, or a TypeError says why not."""

import collections.abc
import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pydantic
import pytest

from cicely.core.codec import Codec, convert


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    a: int
    b: str


class Row(TypedDict):
    n: int


class Model(pydantic.BaseModel):
    path: Path
    size: int = pydantic.Field(alias="Size")


class Other(pydantic.BaseModel):
    name: str


@dataclasses.dataclass
class Job:
    at: dt.datetime
    tags: set[str]
    model: Model | None = None


class Sample(msgspec.Struct, rename="camel", tag="sample"):
    eval_id: int
    home: Path


class Positional(msgspec.Struct, array_like=True):
    a: int
    b: tuple[int, ...]


class Quacks(Protocol):
    def quack(self) -> None: ...


T = TypeVar("T")
NOON = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (Job(NOON, {"a"}, Model(path="/x", Size=2)), Job),
        (Model(path="/x", Size=2), Model),
        ([Model(path="/x", Size=2)], list[Model]),
        (Sample(1, Path("/x")), Sample),
        (Positional(1, (2, 3)), Positional),
        (Colour.RED, Colour),
        ({Colour.RED: 1}, dict[Colour, int]),
        (Pair(1, "x"), Pair),
        (pydantic.RootModel[list[int]]([1]), pydantic.RootModel[list[int]]),
        ((Decimal("1.5"), NOON, Path("/x")), tuple[Decimal, dt.datetime, Path]),
        (Other(name="x"), Model | Other),
        ([Other(name="x"), None], list[Model | Other | None]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_was_encoded_is_rebuilt_through_its_hint(value, hint):
    codec = Codec()

    back = convert(codec.decode(codec.encode(value)), hint)

    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "hint", "converted"),
    [
        ([1, 2], tuple[int, ...], (1, 2)),
        ((1, 2), list[int], [1, 2]),
        ([1, 1], set[int], {1}),
        (3, float, 3.0),
        (3, complex, 3 + 0j),
        ("/x", Path, Path("/x")),
        ({"n": 1}, Row, {"n": 1}),
        ("2024-01-01", dt.date, dt.date(2024, 1, 1)),
        (None, int | None, None),
        ("a", Literal["a", "b"], "a"),
        (np.int64(3), int, 3),
    ],
)
def test_a_value_becomes_the_annotated_type(value, hint, converted):
    back = convert(value, hint)

    assert back == converted
    assert type(back) is type(converted)


@pytest.mark.parametrize("hint", [Any, object, T, Quacks, "forward", print])
def test_a_hint_that_says_nothing_about_data_leaves_the_value_alone(hint):
    value = object()

    assert convert(value, hint) is value


@pytest.mark.parametrize("hint", [np.ndarray, npt.NDArray[np.float64], Any])
def test_an_array_passes_through(hint):
    array = np.zeros(3)

    assert convert(array, hint) is array


@pytest.mark.parametrize(
    ("value", "hint", "sentence"),
    [
        ("3", int, "expected `int`, got `str`"),
        ([1, "x"], list[int], r"expected `int`, got `str` at `value\[1\]`"),
        ({"at": NOON, "tags": {1}}, Job, r"expected `str`, got `int` at `value\.tags\[0\]`"),
        ({"path": "/x"}, Model, "Field required"),
        ([{"path": 1}], list[Model], "Field required"),
        ({"nothing": 1}, Model | Other, "Field required"),
        ([1.0], np.ndarray, "expected `ndarray`, got `list`"),
        (5, Annotated[int, msgspec.Meta(gt=9)], "expected `int` >= 10"),
        (1, collections.abc.Callable, "expected `Callable`, got `int`"),
        (None, str, "expected `str`, got `null`"),
    ],
)
def test_a_value_that_does_not_fit_is_a_type_error_with_a_sentence(value, hint, sentence):
    with pytest.raises(TypeError, match=sentence):
        convert(value, hint)
