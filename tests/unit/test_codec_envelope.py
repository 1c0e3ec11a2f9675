"""The bytes around a value: versions, signatures, pickle, compression."""

import datetime as dt
import threading
import zlib

import numpy as np
import pytest

from cicely.core import envelope
from cicely.core.codec import Codec
from cicely.errors import ConfigError, Malformed, NotStorable

OLD, NEW, OTHER = (bytes([n]) * 32 for n in range(3))
CODEC = Codec()
LONG = [f"a line of text that repeats itself in part {n}" for n in range(2000)]


def malformed(codec, data):
    with pytest.raises(Malformed) as caught:
        codec.decode(data)
    return caught.value.args[2]


def test_a_newer_format_says_that_it_is_newer():
    assert "format version 2, and this Cicely reads up to 1" in malformed(CODEC, b"\x02\x00\xc0")


def test_an_unknown_flag_is_refused():
    assert "no header" in malformed(CODEC, b"\x01\x80\xc0")


def test_a_signed_message_is_read_by_every_process_that_has_the_key():
    data = Codec(keys=[NEW]).encode([1, (2,)])

    assert Codec(keys=[NEW]).decode(data) == [1, (2,)]


def test_after_a_rotation_the_old_key_still_verifies():
    data = Codec(keys=[OLD]).encode("x")

    assert Codec(keys=[NEW, OLD]).decode(data) == "x"


def test_the_first_key_signs():
    data = Codec(keys=[NEW, OLD]).encode("x")

    assert Codec(keys=[NEW]).decode(data) == "x"
    assert "does not have" in malformed(Codec(keys=[OLD]), data)


def test_an_unsigned_message_is_refused_where_there_are_keys():
    assert "not signed" in malformed(Codec(keys=[NEW]), CODEC.encode("x"))


def test_a_signed_message_is_refused_where_there_are_no_keys():
    assert "no keys to verify it" in malformed(CODEC, Codec(keys=[NEW]).encode("x"))


@pytest.mark.parametrize("position", [1, 2, 6, 20, 38, -1])
def test_a_changed_byte_is_noticed(position):
    data = bytearray(Codec(keys=[NEW]).encode(["some", "content"]))
    data[position] ^= 8

    malformed(Codec(keys=[NEW]), bytes(data))


def test_the_signature_cannot_be_cut_off():
    data = bytearray(Codec(keys=[NEW]).encode("x"))
    data[1] &= ~envelope.SIGNED

    assert "not signed" in malformed(Codec(keys=[NEW]), bytes(data[:2] + data[38:]))


@pytest.mark.parametrize("keys", [[b"short"], ["text" * 10], b"k" * 32])
def test_a_bad_key_is_a_configuration_error(keys):
    with pytest.raises(ConfigError, match="signing key"):
        Codec(keys=keys)


# --- pickle -------------------------------------------------------------------------------------


def test_pickle_needs_a_key():
    with pytest.raises(ConfigError, match="needs a signing key"):
        Codec(allow_pickle=True)


def test_with_pickle_and_a_key_any_object_comes_back():
    codec = Codec(keys=[NEW], allow_pickle=True)

    back = codec.decode(codec.encode({"error": ValueError("x"), "n": 1}))

    assert isinstance(back["error"], ValueError)


def test_a_pickle_is_refused_by_a_codec_that_does_not_allow_it():
    data = Codec(keys=[NEW], allow_pickle=True).encode([ValueError("x")])

    assert "allow_pickle is off" in malformed(Codec(keys=[NEW]), data)


def test_a_pickle_in_an_unsigned_message_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    data = bytearray(Codec(keys=[NEW], allow_pickle=True).encode([Trap()]))
    for flags in range(32):
        unsigned = bytes([1, flags & ~(envelope.SIGNED | envelope.COMPRESSED)]) + data[38:]
        malformed(CODEC, unsigned)
        malformed(Codec(keys=[OTHER], allow_pickle=True), unsigned)

    assert not tmp_path.joinpath("sprung").exists()


def test_what_pickle_cannot_store_either_is_refused():
    with pytest.raises(NotStorable, match=r"value: \[0\] is of the type _thread.lock.*pickle refused it too"):
        Codec(keys=[NEW], allow_pickle=True).encode([threading.Lock()])


# --- compression --------------------------------------------------------------------------------


def test_a_large_text_is_compressed():
    data = CODEC.encode(LONG)

    assert data[1] & envelope.COMPRESSED
    assert len(data) < 20_000
    assert CODEC.decode(data) == LONG


def test_random_bytes_are_not_compressed():
    noise = np.random.default_rng(1).bytes(100_000)

    data = CODEC.encode(noise)

    assert len(data) <= len(noise) + 8
    assert CODEC.decode(data) == noise


def test_what_shrinks_more_than_may_be_read_back_is_stored_as_it_is():
    assert CODEC.decode(CODEC.encode(b"\0" * 5_000_000)) == b"\0" * 5_000_000


def compressed(stream, length):
    return bytes([1, envelope.COMPRESSED]) + length.to_bytes(4, "big") + stream


def test_a_decompression_bomb_is_refused_before_it_unfolds():
    bomb = zlib.compress(b"\xc4" + b"\0" * 60_000_000, 9)

    assert "claim to hold" in malformed(CODEC, compressed(bomb, 60_000_001))
    assert "do not hold" in malformed(CODEC, compressed(bomb, 1000))


def test_more_than_64_mb_are_not_decompressed():
    stream = zlib.compress(np.random.default_rng(1).bytes(1_000_000))

    assert "claim to hold" in malformed(CODEC, compressed(stream, 65 * 1024 * 1024))


@pytest.mark.parametrize(
    "data",
    [
        compressed(zlib.compress(b"\xc0"), 2),
        compressed(zlib.compress(b"\xc0")[:-1], 1),
        compressed(zlib.compress(b"\xc0") + b"more", 1),
        compressed(b"no zlib", 1),
        compressed(b"", 0),
        bytes([1, envelope.COMPRESSED]),
    ],
)
def test_a_length_that_lies_and_damaged_streams_are_refused(data):
    malformed(CODEC, data)


def test_a_signed_value_can_be_given_to_a_process_without_keys_and_back():
    signing, bare = Codec(keys=[NEW]), Codec()
    for value in (1, {"when": dt.date(2026, 1, 2)}, "x" * 100_000):
        signed = signing.encode(value)

        whole = signing.unsigned(signed)

        assert bare.decode(whole) == value
        assert signing.decode(signing.signed(bare.encode(value))) == value


def test_the_arguments_of_a_call_stay_arguments_without_their_signature():
    signing, bare = Codec(keys=[NEW]), Codec()
    signed = signing.encode_call((1, {2}), {"x": b"y"}, where="task")

    assert bare.decode_call(signing.unsigned(signed)) == ((1, {2}), {"x": b"y"})


def test_a_process_that_forgot_its_keys_can_neither_sign_nor_verify():
    codec = Codec(keys=[NEW])
    signed = codec.encode(1)

    codec.forget_keys()

    assert Codec().decode(codec.encode(1)) == 1
    with pytest.raises(Malformed, match="no keys"):
        codec.decode(signed)
