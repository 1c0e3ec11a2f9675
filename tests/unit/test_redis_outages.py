"""What happens when the server goes away and comes back, forgets its scripts, or hangs up."""

import os
import select
import time
from collections.abc import Callable, Iterator

import pytest

from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Bell, Demand, Engine, Session, Verdict
from cicely.errors import EngineUnavailable
from redis_server import RedisServer

PATIENCE_S = 5.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that writes a log."""
    server = RedisServer(appendonly="yes", appendfsync="everysec")
    yield server
    server.destroy()


@pytest.fixture
def engine(server: RedisServer) -> Iterator[Engine]:
    engine = connect(server.url)
    engine.open()
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    yield engine
    engine.close()


# --- a crash ------------------------------------------------------------------------------------
def test_what_was_accepted_survives_the_death_of_the_server(server: RedisServer, engine: Engine) -> None:
    engine.enqueue([job(f"j{n}") for n in range(500)])
    [claim] = engine.claim("s", demand()).claims
    server.kill()
    server.start()

    counts = engine.queues()[0].counts

    assert counts == {State.READY: 499, State.RUNNING: 1}
    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.ACCEPTED,)


def test_a_server_without_a_log_forgets_everything_as_it_said(tmp_path: object) -> None:
    server = RedisServer()
    try:
        engine = connect(f"{server.url}?durability=none")
        engine.open()
        engine.enqueue([job("a")])
        server.kill()
        server.start()

        assert engine.facts().durability == "none: a crash of the server loses all of it"
        assert engine.get(["a"]) == [None]
    finally:
        server.destroy()


def test_a_server_with_snapshots_forgets_what_came_after_the_last_as_it_said() -> None:
    server = RedisServer(save="3600 1")
    try:
        engine = connect(f"{server.url}?durability=none")
        engine.open()
        engine.enqueue([job("before")])
        server.tell("SAVE")
        engine.enqueue([job("after")])
        server.kill()
        server.start()

        assert "loses the last 60 minutes" in engine.facts().durability
        assert [found is not None for found in engine.get(["before", "after"])] == [True, False]
    finally:
        server.destroy()


def test_a_call_during_the_outage_may_be_repeated_after_it(server: RedisServer, engine: Engine) -> None:
    server.kill()
    with pytest.raises(EngineUnavailable, match="the call may be repeated"):
        engine.enqueue([job("a")])
    server.start()

    assert engine.enqueue([job("a")])[0].fresh


def test_an_outcome_settles_after_the_outage(server: RedisServer, engine: Engine) -> None:
    engine.enqueue([job("a")])
    wanted = demand()
    [claim] = engine.claim("s", wanted).claims
    server.kill()
    with pytest.raises(EngineUnavailable):
        engine.settle("s", [Succeeded(claim.token)])
    server.start()

    assert [again.token for again in engine.claim("s", wanted).claims] == [claim.token]
    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.ACCEPTED,)
    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.ALREADY,)


# --- a line that breaks -------------------------------------------------------------------------
def test_a_line_that_broke_while_it_lay_idle_is_replaced_silently(
    server: RedisServer, engine: Engine
) -> None:
    server.tell("CLIENT", "KILL", "TYPE", "normal")

    assert engine.enqueue([job("a")])[0].fresh


def test_forgotten_scripts_are_sent_again(server: RedisServer, engine: Engine) -> None:
    server.tell("SCRIPT", "FLUSH")

    assert engine.enqueue([job("a")])[0].fresh


def test_a_silent_server_is_given_up_in_time(server: RedisServer) -> None:
    impatient = connect(f"{server.url}?timeout=0.2")
    impatient.open()
    server.tell("CLIENT", "PAUSE", "1000")
    began_at = time.monotonic()

    with pytest.raises(EngineUnavailable, match="did not answer in time"):
        impatient.enqueue([job("a")])

    assert time.monotonic() - began_at < 0.9


# --- a fork -------------------------------------------------------------------------------------
def test_a_forked_process_has_lines_of_its_own(engine: Engine) -> None:
    engine.enqueue([job("a")])

    status = in_a_fork(
        lambda: engine.enqueue([job("b")])[0].fresh and not engine.enqueue([job("a")])[0].fresh
    )

    assert status == 0
    assert [found is not None for found in engine.get(["a", "b"])] == [True, True]


def test_a_bell_of_the_parent_is_left_alone_by_a_fork(engine: Engine) -> None:
    bell = engine.doorbell("s")
    bell.arm()

    status = in_a_fork(lambda: bell.close() is None)
    engine.enqueue([job("a")])

    assert status == 0
    assert rings(bell)
    bell.close()


# --- bells --------------------------------------------------------------------------------------
def test_a_new_job_wakes_one_of_those_who_wait(engine: Engine) -> None:
    bells = [armed(engine, f"s{n}") for n in range(4)]

    engine.enqueue([job("a")])

    assert rings_of(bells) == 1


def test_each_new_job_wakes_another_one(engine: Engine) -> None:
    bells = [armed(engine, f"s{n}") for n in range(4)]

    engine.enqueue([job("a")])
    engine.enqueue([job("b")])

    assert rings_of(bells) == 2


def test_only_who_can_run_a_job_is_woken(engine: Engine) -> None:
    bells = [
        armed(engine, "another task", tasks=frozenset({"other"})),
        armed(engine, "another queue", queues=("side",)),
        armed(engine, "able", tasks=frozenset({"wor.*", "work"}), queues=("side", "main")),
    ]

    engine.enqueue([job("a")])

    assert rings(bells[2])
    assert rings_of(bells) == 1


def test_a_dead_waiter_is_passed_over(server: RedisServer, engine: Engine) -> None:
    assert in_a_fork(lambda: armed(engine, "dead") is not None) == 0
    alive = armed(engine, "alive")
    time.sleep(0.05)

    engine.enqueue([job("a")])

    assert rings(alive)


def test_a_bell_rings_when_the_server_hangs_up(server: RedisServer, engine: Engine) -> None:
    bell = armed(engine, "s")

    server.kill()

    assert rings(bell)


def test_a_bell_waits_in_silence_for_a_server_that_is_away(server: RedisServer, engine: Engine) -> None:
    bell = armed(engine, "s")
    fd = bell.fileno()
    server.kill()
    assert rings(bell)

    bell.disarm()
    bell.arm()

    assert not rings(bell, 0.1)
    assert bell.fileno() == fd


def test_a_bell_that_could_not_be_armed_rings_when_the_server_is_back(
    server: RedisServer, engine: Engine
) -> None:
    bell = armed(engine, "s")
    server.kill()
    assert rings(bell)
    bell.disarm()
    bell.arm()
    server.start()

    engine.queues()

    assert rings(bell)
    bell.disarm()
    bell.arm()
    assert not rings(bell, 0.1)
    engine.enqueue([job("a")])
    assert rings(bell)


def test_waiting_costs_no_commands(server: RedisServer, engine: Engine) -> None:
    bell = armed(engine, "s")
    before = commands(server)

    assert not rings(bell, 0.3)

    assert commands(server) - before <= 1


def armed(
    engine: Engine,
    session_id: str,
    *,
    tasks: frozenset[str] = frozenset({"work"}),
    queues: tuple[str, ...] = (),
) -> Bell:
    engine.join(Session(id=session_id, worker=session_id, tasks=tasks, queues=queues))
    bell = engine.doorbell(session_id)
    bell.arm()
    return bell


def rings(bell: Bell, timeout_s: float = PATIENCE_S) -> bool:
    readable, _, _ = select.select([bell.fileno()], [], [], timeout_s)
    return bool(readable)


def rings_of(bells: list[Bell]) -> int:
    """Return how many of these ring, at least one of them."""
    assert select.select([bell.fileno() for bell in bells], [], [], PATIENCE_S)[0]
    time.sleep(0.1)
    return sum(rings(bell, 0) for bell in bells)


def commands(server: RedisServer) -> int:
    info = server.tell("INFO", "stats").decode()
    [line] = [line for line in info.splitlines() if line.startswith("total_commands_processed:")]
    return int(line.split(":")[1])


def in_a_fork(act: Callable[[], bool]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if act() else 1)
        except BaseException:  # noqa: BLE001  (whatever it is, the parent is told by the status)
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def demand() -> Demand:
    return Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),))


def job(job_id: str) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main")
