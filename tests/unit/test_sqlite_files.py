"""Where a database may lie, and what is said of a file that is none, or is one no longer."""

import os
from pathlib import Path

import apsw
import pytest

from cicely.core.job import Kind, NewJob
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.engines.sqlite.place import SCHEMA_VERSION, Place
from cicely.errors import (
    ConfigError,
    EngineCorrupt,
    EngineError,
    EngineUnavailable,
    SchemaTooNew,
)

JOB = NewJob(id="a", task="work", kind=Kind.SYNC, queue="main")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


def _made(path: str) -> None:
    engine = SqliteEngine(path)
    engine.open()
    engine.enqueue([JOB])
    engine.close()


def test_the_folder_is_made_where_only_it_is_missing(tmp_path):
    engine = SqliteEngine(str(tmp_path / ".cicely" / "jobs.db"))

    assert engine.enqueue([JOB])[0].fresh
    engine.close()


def test_a_folder_whose_parent_is_missing_is_not_made(tmp_path):
    engine = SqliteEngine(str(tmp_path / "no" / "such" / "jobs.db"))

    with pytest.raises(EngineError, match=r"the folder .*such for jobs\.db cannot be made"):
        engine.open()


def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(EngineError, match="is a folder; name a file in it"):
        SqliteEngine(str(tmp_path)).open()


def test_a_file_that_is_no_database_is_named(path):
    Path(path).write_bytes(b"this is not a database, whatever its name says" * 100)

    with pytest.raises(EngineCorrupt, match=r"jobs\.db cannot be read as a Cicely database.*recover"):
        SqliteEngine(path).open()


def test_another_programs_database_is_left_alone(path):
    connection = apsw.Connection(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()

    with pytest.raises(EngineError, match="is a SQLite database of another program"):
        SqliteEngine(path).open()


def test_a_newer_schema_is_refused(path):
    _made(path)
    connection = apsw.Connection(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()

    with pytest.raises(SchemaTooNew, match=f"schema 99; this one knows {SCHEMA_VERSION}"):
        SqliteEngine(path).open()


def test_a_damaged_page_is_reported_and_not_hidden(path):
    _made(path)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(200_000))

    engine = SqliteEngine(path)
    with pytest.raises(EngineCorrupt, match=r"restore a backup"):
        engine.enqueue([JOB])
    engine.close()


def test_a_file_that_was_deleted_under_a_running_process_is_missed(path):
    engine = SqliteEngine(path)
    engine.enqueue([JOB])
    os.unlink(path)

    with pytest.raises(EngineUnavailable, match="was deleted or replaced while it was in use"):
        engine.enqueue([JOB])
    with pytest.raises(EngineUnavailable, match="was deleted or replaced"):
        engine.get(["a"])
    engine.close()


def test_a_file_that_was_replaced_is_not_written_to(path, tmp_path):
    engine = SqliteEngine(path)
    engine.open()
    _made(str(tmp_path / "other.db"))
    os.replace(tmp_path / "other.db", path)

    with pytest.raises(EngineUnavailable, match="replaced"):
        engine.pause("main")
    engine.close()


def test_opening_again_begins_with_the_file_that_is_there_now(path):
    engine = SqliteEngine(path)
    engine.enqueue([JOB])
    for name in Path(path).parent.iterdir():
        name.unlink()
    engine.close()

    engine.open()

    assert engine.enqueue([JOB])[0].fresh
    engine.close()


def test_an_unwritable_folder_is_named(path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(EngineError, match=r"is not writable for this user"):
        SqliteEngine(path).open()


def test_network_file_systems_are_refused(path, monkeypatch):
    monkeypatch.setattr("cicely.engines.sqlite.place._file_system_of", lambda _: "nfs4")

    with pytest.raises(EngineError, match="nfs4 file system, where SQLite's locks do not hold"):
        SqliteEngine(path).open()


def test_a_containers_own_layer_is_warned_of(path, monkeypatch):
    monkeypatch.setattr("cicely.engines.sqlite.place._file_system_of", lambda _: "overlay")
    engine = SqliteEngine(path)

    [warning] = engine.facts().warnings

    assert "goes with the container" in warning


@pytest.mark.parametrize(("durability", "synchronous"), [("power", 2), ("process", 1), ("none", 0)])
def test_durability_chooses_when_the_disk_is_waited_for(path, durability, synchronous):
    connection = Place(path, durability=durability).connect()

    assert connection.execute("PRAGMA synchronous").fetchall() == [(synchronous,)]
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    connection.close()


def test_an_unknown_durability_is_refused(path):
    with pytest.raises(ConfigError, match="durability='always': choose one of power, process, none"):
        SqliteEngine(path, durability="always")


def test_the_facts_say_what_an_accepted_call_survives(path):
    facts = SqliteEngine(path).facts()

    assert (facts.engine, facts.address) == ("sqlite", path)
    assert facts.durability.startswith("power: ")
