"""Values at rest: in the row, in the engine beside it, or in a folder of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cicely import Cicely, ConfigError, EngineUnavailable, JobFailed, NotStorable, ResultGone
from cicely.core.codec import Codec
from cicely.engines.memory import MemoryEngine
from cicely.errors import Malformed
from cicely.testing import inline
from cicely.values import INLINE_BYTES, Store, ValueGone, Values

LARGE = os.urandom(200_000)
HUGE = os.urandom(17 * 1024 * 1024)


def test_a_large_argument_and_result_make_the_round_trip():
    app = Cicely("tests")
    echo = app.task(name="echo")(lambda data: data)

    with inline(app) as world:
        job = echo.delay(LARGE)
        [row] = world.engine.get([job.id])

        assert len(row.body) < 200
        assert job.get() == LARGE


def test_a_huge_argument_is_refused_with_the_setting_that_helps():
    app = Cicely("tests")
    app.use(MemoryEngine())

    with pytest.raises(NotStorable, match="blobs="):
        app.task(name="t")(len).delay(HUGE)
    assert not list(app.jobs())


def test_a_huge_argument_goes_to_the_folder_that_blobs_names(tmp_path):
    app = Cicely("tests", blobs=tmp_path.as_uri())
    size = app.task(name="size")(lambda data: len(data) + 0)

    with inline(app):
        assert size.options(id="../up").delay(HUGE).get() == len(HUGE)

    assert [path.name for path in tmp_path.iterdir()] == ["%2E%2E%2Fup"]


def test_results_go_to_the_folder_that_results_names(tmp_path):
    app = Cicely("tests", results=tmp_path.as_uri())
    one = app.task(name="one")(lambda: 1)

    with inline(app) as world:
        job = one.delay()
        world.run()
        assert job.get() == 1
        [file] = tmp_path.glob("*/*")
        file.unlink()

        with pytest.raises(ResultGone, match="no longer in results="):
            job.get()


def test_a_folder_that_cannot_be_written_fails_the_job_and_not_the_worker(tmp_path, monkeypatch):
    monkeypatch.setattr("cicely.values._STORE_PATIENCE_S", 0.0)
    (tmp_path / "file").touch()
    app = Cicely("tests", results=(tmp_path / "file").as_uri())

    with inline(app):
        job = app.task(name="one")(lambda: 1).delay()

        with pytest.raises(JobFailed, match=r"the result of one: cannot write to results="):
            job.get()


def test_an_unknown_scheme_names_the_setting():
    with pytest.raises(ConfigError, match="blobs=nowhere://x: Protocol not known: nowhere"):
        Store("nowhere://x", option="blobs").put("job", "digest", b"")


def test_small_values_stay_in_the_row():
    values = Values(Codec(), MemoryEngine())

    assert len(values.pack("job", os.urandom(INLINE_BYTES - 100), where="value")) < INLINE_BYTES
    assert len(values.pack("job", os.urandom(INLINE_BYTES), where="value")) < 100


def test_a_value_that_is_gone_or_changed_is_malformed():
    engine = MemoryEngine()
    values = Values(Codec(), engine)
    row = values.pack("job", LARGE, where="value")

    with pytest.raises(ValueGone, match=r"its value of 200,0\d\d bytes is no longer in the engine"):
        values.unpack("another job", row)
    [(key, (data, at))] = engine._blobs.items()
    engine._blobs[key] = (data[:-1] + b"!", at)
    with pytest.raises(Malformed, match="is not what was put there"):
        values.unpack("job", row)


@pytest.mark.parametrize("tail", [b"", b"\xc1", b"\x93\xa6engine\xa4../x\x01", b"\x93\xa4else\xa0\x01"])
def test_a_reference_edited_by_hand_is_malformed(tail):
    with pytest.raises(Malformed, match="its reference to a value"):
        Values(Codec(), MemoryEngine()).unpack("job", b"\xfe\x01" + tail)


def test_a_worker_waits_for_an_engine_that_is_away():
    class Away(MemoryEngine):
        lost = 2

        def put_blob(self, job_id, digest, data):
            if self.lost:
                self.lost -= 1
                raise EngineUnavailable("away")
            super().put_blob(job_id, digest, data)

    values = Values(Codec(), Away())

    assert values.unpack("job", values.pack("job", LARGE, where="value")) == LARGE


def test_without_an_engine_values_pass_through_whole():
    outside, inside = Values(Codec(), MemoryEngine()), Values(Codec(), None)
    row = outside.pack("job", LARGE, where="value")

    whole = outside.at_hand("job", row)

    assert inside.unpack("job", whole) == LARGE
    assert outside.stow("job", inside.pack("job", LARGE, where="value"), where="value") == row


@pytest.mark.parametrize("folder", [{"blobs": "/mnt/x"}, {"results": "file:///mnt/x"}])
@pytest.mark.parametrize("url", ["redis://nobody/0", "postgresql://nobody/x"])
def test_a_folder_of_one_machine_is_refused_beside_a_server(url, folder):
    engine = MemoryEngine()

    with pytest.raises(ConfigError, match=r"is a folder of this machine.*shared_folders=True"):
        Cicely("apart", url, **folder).values(engine)
    Cicely("mounted", url, shared_folders=True, **folder).values(engine)
    Cicely("embedded", "memory://", **folder).values(engine)


def test_a_bucket_may_stand_beside_a_server():
    Cicely("bucket", "redis://nobody/0", blobs="s3://bucket/x").values(MemoryEngine())


@pytest.mark.parametrize("option", ["results", "blobs"])
@pytest.mark.parametrize("value", [5, True, b"file:///values", Path("values")])
def test_a_folder_for_values_that_is_no_text_is_refused_at_once(option, value):
    with pytest.raises(ConfigError, match=rf"^{option}=.*: the URL of a folder as text, as in "):
        Cicely("tests", **{option: value})
