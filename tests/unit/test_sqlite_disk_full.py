"""A disk without room refuses a call whole, and every call may be repeated once there is room."""

from collections.abc import Iterator

import apsw
import pytest

from cicely.core.job import Filter, Kind, NewJob
from cicely.core.outcome import Failed, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Save, Session
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.errors import EngineFull, EngineUnavailable


class Disk(apsw.VFS):
    """A disk whose n-th write from now on, and all that follow, find no room."""

    def __init__(self) -> None:
        self.name = "cicely-tests"
        super().__init__(self.name, "unix", makedefault=True)
        self.room: int | None = None

    def xOpen(self, name, flags):  # noqa: N802  (apsw's name)
        return File(self, name, flags)

    def spend(self) -> None:
        if self.room is None:
            return
        self.room -= 1
        if self.room < 0:
            raise apsw.FullError("the disk of this test is full")


class File(apsw.VFSFile):
    def __init__(self, disk, name, flags) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data, offset) -> None:  # noqa: N802  (apsw's name)
        self._disk.spend()
        super().xWrite(data, offset)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.unregister()


def test_a_full_disk_is_named_and_nothing_of_the_call_stays(disk, tmp_path):
    engine = SqliteEngine(str(tmp_path / "jobs.db"))
    engine.open()
    engine.enqueue([_job("a")])
    disk.room = 0

    with pytest.raises(EngineFull, match=r"no space is left for .*jobs\.db; make room"):
        engine.enqueue([_job("b"), _job("c")])

    disk.room = None
    assert engine.get(["b", "c"]) == [None, None]
    assert engine.enqueue([_job("b")])[0].fresh
    engine.close()


def test_whichever_write_finds_no_room_the_same_calls_end_the_same(disk, tmp_path):
    expected = _life(disk, str(tmp_path / "roomy.db"), None)

    for room in range(0, 280, 7):
        assert _life(disk, str(tmp_path / f"{room}.db"), room) == expected


def test_a_database_that_is_made_on_a_full_disk_can_be_made_later(disk, tmp_path):
    for room in range(0, 60, 3):
        engine = SqliteEngine(str(tmp_path / f"{room}.db"))
        disk.room = room
        _until_there_is_room(disk, engine.open)
        disk.room = None

        assert engine.enqueue([_job("a")])[0].fresh
        engine.close()


def _life(disk: Disk, path: str, room: int | None) -> list[object]:
    """Carry some jobs through their lives; the disk fills up at one write, and is emptied then."""
    engine = SqliteEngine(path, durability="process", now=lambda: 2e9)
    engine.open()
    disk.room = room

    def call(act):
        return _until_there_is_room(disk, act)

    call(lambda: engine.join(Session(id="s", worker="s", tasks=frozenset({"work"}))))
    call(lambda: engine.enqueue([_job(name) for name in "abcd"]))
    demand = Demand(b"request1", ("main",), (Ask((Kind.SYNC,), 3),))
    claims = call(lambda: engine.claim("s", demand)).claims
    tokens = {claim.job_id: claim.token for claim in claims}
    call(lambda: engine.save("s", [Save(tokens["a"], progress=b"half", checkpoint=b"x" * 9000)]))
    outcomes = [Succeeded(tokens["a"], b"r" * 9000), Failed(tokens["b"], "error", retry_in_s=9)]
    call(lambda: engine.settle("s", outcomes))
    call(lambda: engine.retire("s"))
    call(lambda: engine.steer("cancel", ["d"]))
    call(lambda: engine.put_blob("a", "digest", b"b" * 9_000))
    disk.room = None
    jobs = engine.get(list("abcd"))
    shown = [jobs, engine.find(Filter()).jobs, engine.queues()]
    _check(path)
    engine.close()
    states = [job.state for job in jobs if job]
    assert states == [State.SUCCEEDED, State.SCHEDULED, State.READY, State.CANCELLED]
    return shown


def _until_there_is_room(disk: Disk, act):
    try:
        return act()
    except EngineUnavailable:
        disk.room = None
        return act()


def _check(path: str) -> None:
    connection = apsw.Connection(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def _job(job_id: str) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main", body=b"b" * 300)
