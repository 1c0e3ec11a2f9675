"""Values come back as they went, or are refused with a sentence that says what and where."""

import dataclasses
import datetime as dt
import enum
import math
import pathlib
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cicely.core.codec import Codec
from cicely.errors import ConfigError, NotStorable

CODEC = Codec()
BERLIN = ZoneInfo("Europe/Berlin")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: object = None


class Sample(msgspec.Struct, rename="camel", tag="sample"):
    eval_id: int
    taken_on: dt.date


class Model(pydantic.BaseModel):
    path: pathlib.Path
    size: int = pydantic.Field(alias="Size")


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Celsius) and other.degrees == self.degrees

    def __hash__(self) -> int:
        return hash(self.degrees)


def round_trip(value, codec=CODEC):
    return codec.decode(codec.encode(value))


def refusal(value, codec=CODEC):
    with pytest.raises(NotStorable) as caught:
        codec.encode(value)
    return str(caught.value)


def nested(depth, innermost=()):
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


EXACT = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    2**8190,
    1.5,
    math.inf,
    -0.0,
    "",
    "é漢😀",
    b"\x00\xff",
    bytearray(b"ab"),
    [],
    (),
    (1,),
    [(1, (2, [3]))],
    {"a": {"b": [1, None]}},
    {1: "a", b"k": 2, None: 3, 2.5: 4, False: 5},
    {(1, "x"): uuid.UUID(int=7), dt.date(2024, 1, 1): 1, 2**70: 0},
    {3, "a"},
    frozenset({(1, 2), frozenset({1})}),
    dt.datetime(2024, 2, 29, 23, 59, 59, 999999),
    dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    dt.datetime(2024, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
    dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    dt.date(1, 1, 1),
    dt.time(1, 2, 3, 4),
    dt.time(1, 2, tzinfo=dt.UTC),
    dt.timedelta(days=-999999999, microseconds=1),
    Decimal("1.10"),
    Decimal("-Infinity"),
    uuid.UUID(int=2**128 - 1),
    pathlib.Path("/home/ä b"),
    pathlib.Path("not\udcffutf8"),
    pathlib.PurePosixPath("a/b"),
    pathlib.PureWindowsPath("c:\\a"),
    complex(1, -2.5),
]


@pytest.mark.parametrize("value", EXACT, ids=repr)
def test_a_value_comes_back_equal_and_of_its_type(value):
    back = round_trip(value)

    assert back == value
    assert type(back) is type(value)
    assert isinstance(value, set | frozenset) or repr(back) == repr(value)


def test_a_datetime_keeps_its_zone_and_its_fold():
    second_half_past_two = dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)

    back = round_trip(second_half_past_two)

    assert back.tzinfo is BERLIN
    assert back.fold == 1
    assert back.utcoffset() == dt.timedelta(hours=1)


def test_a_memoryview_of_bytes_comes_back_as_one():
    back = round_trip(memoryview(b"abc"))

    assert isinstance(back, memoryview)
    assert back == b"abc"


def test_nan_is_a_value():
    assert math.isnan(round_trip([math.nan])[0])


def test_dict_order_is_kept():
    assert list(round_trip({"b": 1, "a": (2,), "c": 3})) == ["b", "a", "c"]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.integers(), inner, max_size=5),
    max_leaves=20,
)
RICH = st.recursive(
    PLAIN
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes(timezones=st.none() | st.timezones(), allow_imaginary=False)
    | st.timedeltas()
    | st.dates()
    | st.times()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.tuples(st.integers(), st.text()) | st.text(), inner, max_size=4)
    ),
    max_leaves=15,
)


@settings(deadline=None, max_examples=300)
@given(RICH)
def test_whatever_is_encoded_is_decoded_to_the_same(value):
    back = round_trip(value)

    assert back == value
    assert repr(back) == repr(value)


@settings(deadline=None, max_examples=100)
@given(st.tuples(RICH, PLAIN), st.dictionaries(st.text(), RICH, max_size=3))
def test_a_call_comes_back_as_its_arguments(args, kwargs):
    data = CODEC.encode_call(args, kwargs, where="evals.run")

    assert CODEC.decode_call(data) == (args, kwargs)
    assert CODEC.decode(data) == (args, kwargs)


def test_a_small_plain_call_costs_two_bytes_of_header():
    data = CODEC.encode_call((1,), {}, where="evals.run")

    assert data[2:] == msgspec.msgpack.encode([[1], {}])


# --- types that only a hint makes whole again --------------------------------------------------


def test_a_dataclass_is_stored_as_its_fields():
    assert round_trip(Point(1, Point(2, (3,)))) == {"x": 1, "y": {"x": 2, "y": (3,)}}


def test_a_struct_is_stored_under_its_wire_names_and_tag():
    stored = round_trip(Sample(1, dt.date(2024, 1, 1)))

    assert stored == {"type": "sample", "evalId": 1, "takenOn": dt.date(2024, 1, 1)}


def test_a_model_is_stored_as_its_fields():
    assert round_trip(Model(path="/x", Size=3)) == {"path": pathlib.Path("/x"), "size": 3}


def test_a_root_model_is_stored_as_its_root():
    assert round_trip(pydantic.RootModel[list[int]]([1, 2])) == [1, 2]


def test_an_enum_is_stored_as_its_value():
    assert round_trip([Colour.RED]) == ["red"]


def test_subclasses_are_stored_as_their_base():
    pair = namedtuple("pair", "a b")

    assert round_trip([pair(1, 2), OrderedDict(a=1)]) == [(1, 2), {"a": 1}]


# --- NumPy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">u2")[::2],
        np.zeros((0, 5)),
        np.array(3.5),
        np.array([True, False]),
        np.array(["a", "ünï"]),
        np.array([b"ab", b""]),
        np.array([1 + 2j], dtype="c8"),
        np.array(["2024-01-01", "NaT"], dtype="M8[ns]"),
        np.array([(1, [2.0, 3.0])], dtype=[("a", "i4"), ("b", "f8", (2,))]),
        np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_keeps_dtype_shape_and_content(array):
    back = round_trip({"array": array})["array"]

    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.flags.writeable


@pytest.mark.parametrize(
    "scalar", [np.float32(1.5), np.int64(-1), np.bool_(True), np.str_(""), np.datetime64(1, "s")], ids=repr
)
def test_a_numpy_scalar_keeps_its_type(scalar):
    back = round_trip(scalar)

    assert back == scalar
    assert type(back) is type(scalar)


def test_an_array_of_objects_is_refused():
    assert "array of Python objects" in refusal([np.array([object()])])


def test_a_masked_array_is_refused_rather_than_stripped_of_its_mask():
    assert "MaskedArray" in refusal(np.ma.masked_array([1], mask=[True]))


# --- own types ----------------------------------------------------------------------------------


def own_codec():
    codec = Codec()
    codec.register(Celsius, lambda value: {"degrees": value.degrees}, lambda p: Celsius(**p), tag="celsius")
    return codec


def test_a_registered_type_comes_back_also_as_element_and_key():
    value = {"a": [Celsius(1)], "b": {Celsius(2)}, "c": {Celsius(3): 1}}

    assert round_trip(value, own_codec()) == value


def test_a_registered_type_covers_its_subclasses():
    class Kelvin(Celsius):
        pass

    assert type(round_trip(Kelvin(1), own_codec())) is Celsius


def test_an_error_of_a_users_encode_names_its_tag():
    codec = Codec()
    codec.register(Celsius, lambda _: 1 / 0, Celsius, tag="celsius")

    assert "[0] was refused by the codec 'celsius': ZeroDivisionError" in refusal([Celsius(1)], codec)


def test_one_tag_for_two_types_is_an_error():
    codec = own_codec()

    with pytest.raises(ConfigError, match="give each type one tag"):
        codec.register(Point, dataclasses.asdict, lambda p: Point(**p), tag="celsius")


@pytest.mark.parametrize("type_", [int, dict, dt.datetime, object])
def test_a_type_that_is_stored_as_it_is_cannot_be_registered(type_):
    with pytest.raises(ConfigError, match=r"app\.codec"):
        CODEC.register(type_, str, str, tag="t")


# --- refusals -----------------------------------------------------------------------------------


def test_a_refusal_says_which_argument_and_where_in_it():
    with pytest.raises(NotStorable) as caught:
        CODEC.encode_call((1, {"rows": [0, 1, 2, lambda: 0]}), {}, where="evals.run")

    assert str(caught.value).startswith("argument 2 of evals.run: ['rows'][3] is a lambda.")


def test_a_refusal_names_a_keyword_argument():
    with pytest.raises(NotStorable, match=r"^argument 'rows' of evals\.run is text with the lone surrogate"):
        CODEC.encode_call((), {"rows": "a\ud800"}, where="evals.run")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (["a\ud800b"], "[0] is text with the lone surrogate '\\ud800' at 1"),
        ({"a\ud800": 1}, "has the key 'a\\ud800', which is text with the lone surrogate"),
        ({math.nan: 1}, "has the key NaN"),
        ({1: {np.float64("nan"): 1}}, "[1] has the key NaN"),
        ({Decimal("NaN"): 1}, "has the key NaN"),
        (1 << 9000, "is an integer of 9,001 bits; at most 8,191"),
        (Decimal("1" * 5000), "is a Decimal of 5,000 digits"),
        (Celsius, "is a class"),
        (Celsius(1), "is of the type tests.unit.test_codec.Celsius"),
        ([print], "[0] is the function print"),
        ((n for n in ()), "iterator or generator"),
        (range(3), "is a range"),
        (math, "is a module"),
        (ValueError("x"), "is an exception"),
        (object(), "is of the type object"),
        ({Colour.RED: 1, "red": 2}, "has two keys that become the same"),
        ({Point(1)}, "{…} is stored as a mapping, which cannot be in a set"),
        (Point(1, [print]), ".y[0] is the function print"),
        (memoryview(np.zeros(2)), "memoryview of something other than bytes"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_would_not_come_back_is_refused_with_a_sentence(value, sentence):
    message = refusal(value)

    assert message.startswith("value")
    assert sentence.replace("tests.unit.", "") in message.replace("tests.unit.", "")


@pytest.mark.parametrize("innermost", [(), dt.date(2024, 1, 1), "x"], ids=repr)
def test_64_levels_are_stored_and_65_refused(innermost):
    room = 63 if innermost == () else 64

    assert round_trip(nested(room, innermost)) == nested(room, innermost)
    assert "nested deeper than 64 levels" in refusal(nested(room + 1, innermost))


def test_a_value_that_contains_itself_is_refused():
    loop = {}
    loop["loop"] = [loop, loop]

    assert "does it contain itself?" in refusal(loop)


def test_a_value_above_the_limit_names_the_remedy():
    small = Codec(max_bytes=1024 * 1024)

    message = refusal(np.random.default_rng(1).bytes(3 * 1024 * 1024), small)

    assert message.startswith("value is 3.0 MB; at most 1.0 MB are stored in the engine.")
    assert "blobs=" in message


def test_a_call_above_the_limit_names_the_task():
    with pytest.raises(NotStorable, match=r"^what is passed to evals\.run is 0\.0 MB"):
        Codec(max_bytes=10).encode_call(("x" * 100,), {}, where="evals.run")
