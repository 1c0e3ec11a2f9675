"""Large bytes are kept beside their job, under job and digest, and go with it."""

from __future__ import annotations

from cicely.testing.conformance.bench import fail, job, succeed, sweep
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.BLOBS})


def test_a_blob_comes_back_as_it_was(harness: Harness) -> None:
    engine = harness.engine()
    data = bytes(range(256)) * 4096

    engine.put_blob("a", "digest", data)

    assert engine.get_blob("a", "digest") == data


def test_an_unknown_blob_is_none(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_blob("a", "digest", b"data")

    assert engine.get_blob("a", "other") is None
    assert engine.get_blob("b", "digest") is None


def test_an_empty_blob_is_one(harness: Harness) -> None:
    engine = harness.engine()

    engine.put_blob("a", "digest", b"")

    assert engine.get_blob("a", "digest") == b""


def test_a_blob_may_be_put_again(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_blob("a", "digest", b"data")

    engine.put_blob("a", "digest", b"data")

    assert engine.get_blob("a", "digest") == b"data"


def test_a_blob_belongs_to_one_job(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_blob("a", "digest", b"data")
    engine.put_blob("b", "digest", b"data")
    fail(engine, job(id="a"))

    engine.steer("discard", ["a"])

    assert engine.get_blob("a", "digest") is None
    assert engine.get_blob("b", "digest") == b"data"


def test_a_blob_goes_with_its_job(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_blob("a", "digest", b"data")
    succeed(engine, job(id="a", keep_s=10))
    harness.advance(11)

    sweep(engine)

    assert engine.get_blob("a", "digest") is None


def test_a_blob_stays_as_long_as_its_job(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_blob("a", "digest", b"data")
    succeed(engine, job(id="a", keep_s=100 * 86_400))
    harness.advance(30 * 86_400)

    sweep(engine)

    assert engine.get_blob("a", "digest") == b"data"


def test_a_young_orphan_stays(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_blob("a", "digest", b"data")
    harness.advance(6 * 86_400)

    sweep(engine)

    assert engine.get_blob("a", "digest") == b"data"


def test_an_orphan_is_swept_after_a_week(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_blob("a", "digest", b"data")
    harness.advance(7 * 86_400 + 1)

    sweep(engine)

    assert engine.get_blob("a", "digest") is None
