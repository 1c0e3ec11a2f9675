"""Whatever bytes lie in the engine, decoding them ends in a value or in Malformed."""

import datetime as dt
import uuid
import zlib
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from cicely.core.codec import Codec
from cicely.core.envelope import CALL, COMPRESSED, EXTENDED
from cicely.core.values import extensions
from cicely.errors import Malformed


class Own:
    def __init__(self, number):
        self.number = number


CODEC = Codec()
CODEC.register(Own, lambda own: own.number, lambda parts: Own(int(parts)), tag="own")

FULL = {
    "tuple": (1, (2.5, "x")),
    "set": {1, "a", (2,)},
    "frozen": frozenset({b"x"}),
    "pairs": {(1, 2): None, 2**80: -(2**70)},
    "moment": [dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), dt.time(1, fold=1)],
    "day": [dt.date(2024, 1, 1), dt.timedelta(1, 2, 3)],
    "misc": [Decimal("1.5"), uuid.UUID(int=1), Path("/x"), 1j, bytearray(b"x"), memoryview(b"y")],
    "array": [np.arange(3), np.float32(1), np.zeros(1, dtype=[("a", "i4"), ("b", "f8", (2,))])],
    "own": Own(1),
}
VALID = [
    Codec().encode([1, 2.5, "text", {"a": b"x", "n": None}]),
    Codec().encode_call((1, "x"), {"y": 2.0}, where="t"),
    CODEC.encode(FULL),
    CODEC.encode_call((FULL,), {"k": (1,)}, where="t"),
    CODEC.encode([f"line {n}" for n in range(4000)]),
]


def outcome(data, codec=CODEC):
    """Return "value" or "malformed"; let everything else escape."""
    try:
        codec.decode(data)
    except Malformed:
        return "malformed"
    return "value"


def extended(value):
    return bytes([1, EXTENDED]) + msgspec.msgpack.encode(value)


def nested(levels, code):
    body = b"\x90"
    for _ in range(levels):
        body = b"\x91" + msgspec.msgpack.encode(Ext(code, body))
    return bytes([1, EXTENDED]) + body


@settings(deadline=None, max_examples=1500)
@given(st.binary(max_size=200))
def test_random_bytes_give_malformed(data):
    assert outcome(data) in ("value", "malformed")


@settings(deadline=None, max_examples=1500)
@given(st.sampled_from([0, CALL, EXTENDED, EXTENDED | CALL, 1, COMPRESSED]), st.binary(max_size=200))
def test_random_bytes_behind_a_valid_header_give_malformed(flags, body):
    assert outcome(bytes([1, flags]) + body) in ("value", "malformed")


@settings(deadline=None, max_examples=1500)
@given(st.integers(0, 20), st.binary(max_size=60))
def test_random_extensions_give_malformed(code, data):
    assert outcome(extended([Ext(code, data)])) in ("value", "malformed")


@settings(deadline=None, max_examples=1500)
@given(st.integers(1, 18), st.lists(st.integers() | st.text() | st.lists(st.integers(0, 9)), max_size=4))
def test_random_items_in_extensions_give_malformed(code, items):
    assert outcome(extended([Ext(code, CODEC.encode(items)[2:])])) in ("value", "malformed")


@settings(deadline=None, max_examples=3000)
@given(st.data())
def test_a_mutated_message_gives_a_value_or_malformed(data):
    mutated = bytearray(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutated) - 1))
        mutated[position] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del mutated[data.draw(st.integers(0, len(mutated))) :]

    assert outcome(bytes(mutated)) in ("value", "malformed")


@pytest.mark.parametrize("data", VALID, ids=["plain", "call", "rich", "rich call", "compressed"])
def test_every_truncation_and_trailing_byte_is_malformed(data):
    step = max(1, len(data) // 500)

    assert {outcome(data[:end]) for end in range(0, len(data), step)} == {"malformed"}
    assert outcome(data + b"\0") == "malformed"


@pytest.mark.parametrize(
    "header", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("flags", [0, CALL, EXTENDED])
def test_a_length_that_lies_is_malformed_and_reserves_nothing(header, flags):
    assert outcome(bytes([1, flags]) + header + b"\x01") == "malformed"


@pytest.mark.parametrize("level", [b"\x91", b"\x81\xa1a", b"\x81\x91"], ids=["list", "dict", "key"])
@pytest.mark.parametrize("count", [65, 70, 500, 100_000])
def test_deep_nesting_is_malformed(level, count):
    assert (
        outcome(bytes([1, 0]) + level * count + b"\xc0" * (1 + count * (level[-1:] == b"\x91")))
        == "malformed"
    )


@pytest.mark.parametrize("code", [extensions.TUPLE, extensions.FROZENSET])
def test_deep_nesting_of_extensions_is_malformed(code):
    assert outcome(nested(10, extensions.TUPLE)) == "value"
    assert outcome(nested(70, code)) == "malformed"
    assert outcome(nested(3000, code)) == "malformed"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Ext(99, b""), "unknown code 99"),
        (
            Ext(extensions.OWN, msgspec.msgpack.encode(["ghost", 1])),
            "no type is registered under the tag 'ghost'",
        ),
        (
            Ext(extensions.OWN, msgspec.msgpack.encode(["own", "x"])),
            "the codec 'own' refused its data: ValueError",
        ),
        (Ext(extensions.INT, b"\x01" * 2000), "integer of 2,000 bytes"),
        (Ext(extensions.DECIMAL, b"1" * 5000), "Decimal of 5,000 digits"),
        (Ext(extensions.PICKLE, b"cos\nsystem\n(S'true'\ntR."), "allow_pickle is off"),
        (Ext(extensions.DATETIME, b"2024-01-01T00:00:00[Nowhere/At_All]"), "'Nowhere/At_All' is not known"),
        (Ext(extensions.DATETIME, b"2024-01-01T00:00:00[../../etc/passwd]"), "is not known"),
        (
            Ext(extensions.ARRAY, msgspec.msgpack.encode(["|O", [1], False, b"12345678"])),
            "unknown dtype '|O'",
        ),
        (Ext(extensions.ARRAY, msgspec.msgpack.encode(["2i4,O", [1], False, b""])), "unknown dtype"),
        (Ext(extensions.ARRAY, msgspec.msgpack.encode(["<f8", [2**40], False, b"12345678"])), "has 8 bytes"),
        (Ext(extensions.ARRAY, msgspec.msgpack.encode(["<f8", [-1, -1], False, b"12345678"])), "has 8 bytes"),
        (
            Ext(extensions.ARRAY, msgspec.msgpack.encode([[["a", "|O"]], [1], False, b"1"])),
            "unknown dtype '|O'",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_an_extension_that_no_codec_wrote_says_what_is_wrong(value, reason):
    with pytest.raises(Malformed) as caught:
        CODEC.decode(extended([value]))

    assert reason in str(caught.value)


def test_an_extension_in_a_message_that_announces_none_is_malformed():
    assert outcome(bytes([1, 0]) + extended(Ext(1, b"\x90"))[2:]) == "malformed"


def test_a_value_is_no_call():
    with pytest.raises(Malformed, match="not the arguments of a call"):
        CODEC.decode_call(CODEC.encode([1, 2]))


def test_a_compressed_message_may_hold_no_deep_value_either():
    text = msgspec.msgpack.encode(" ".join(map(str, range(10_000))))
    body = b"\x92" + text + b"\x91" * 100 + b"\xc0"

    assert outcome(bytes([1, COMPRESSED]) + len(body).to_bytes(4, "big") + zlib.compress(body)) == "malformed"
