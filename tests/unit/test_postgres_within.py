"""Jobs are stored in the caller's own transaction: they come with its commit, or never."""

import asyncio
import threading
import time
from functools import partial
from typing import Any

import psycopg
import pytest
import sqlalchemy
from postgres_shop import (
    app,
    connection,
    engine,
    joined,
    once_of,
    ship_of,
    stored,
    taken,
)
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

from cicely import Cicely, stable
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.memory import MemoryEngine
from cicely.engines.postgres.enclosed import qualified
from cicely.engines.postgres.engine import PostgresEngine
from cicely.engines.postgres.statements import statements
from cicely.errors import EngineError, Unsupported, UsageError
from cicely.testing.conformance.bench import demand

__all__ = ["app", "connection", "engine"]


# --- psycopg ----------------------------------------------------------------------------------
def test_a_job_is_seen_with_the_commit_and_not_before(app: Cicely, connection: Any) -> None:
    made = ship_of(app).options(connection=connection).delay(1)
    assert stored(app) == set()
    connection.commit()
    assert stored(app) == {made.id}


def test_a_rollback_leaves_nothing(app: Cicely, connection: Any) -> None:
    ship_of(app).options(connection=connection, countdown=60, tags=["a"], expires=90).delay(1)
    ship_of(app).options(connection=connection).delay(2, "x" * 200_000)
    once_of(app).options(connection=connection).delay(3)
    connection.rollback()
    assert stored(app) == set()
    for table in ("job", "ready", "deferred", "expiring", "tag", "uniq", "blob", "blob_watch", "delta"):
        schema = app.engine._address.schema  # type: ignore[attr-defined]
        assert connection.execute(f"SELECT count(*) FROM {schema}.{table}").fetchone() == (0,), table


def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(app: Cicely, connection: Any) -> None:
    kept = ship_of(app).options(connection=connection).delay(1)
    with connection.transaction() as inner:
        ship_of(app).options(connection=connection).delay(2)
        raise psycopg.Rollback(inner)
    connection.commit()
    assert stored(app) == {kept.id}


def test_a_transaction_block_of_an_autocommit_connection_will_do(app: Cicely, server: Any) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        with connection.transaction():
            made = ship_of(app).options(connection=connection).delay(1)
            assert stored(app) == set()
        assert stored(app) == {made.id}


def test_the_caller_s_settings_are_left_alone_and_do_not_matter(app: Cicely, server: Any) -> None:
    with psycopg.connect(server.url, row_factory=dict_row, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET search_path TO nowhere")
        connection.execute("SET enable_indexscan TO off")
        before = connection.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall()
        made = ship_of(app).options(connection=connection, tags=["a"], countdown=5).delay(1)
        large = ship_of(app).options(connection=connection).delay(2, "x" * 200_000)
        unique = once_of(app).options(connection=connection).delay(3)
        assert connection.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall() == before
        connection.commit()
    assert stored(app) == {made.id, large.id, unique.id}


def test_a_large_argument_goes_and_comes_with_the_transaction(app: Cicely, connection: Any) -> None:
    made = ship_of(app).options(connection=connection).delay(1, "x" * 200_000)
    blobs = f"SELECT count(*) FROM {app.engine._address.schema}.blob"  # type: ignore[attr-defined]
    with psycopg.connect(app.url.partition("?")[0]) as other:
        assert other.execute(blobs).fetchone() == (0,)
    connection.commit()
    assert connection.execute(blobs).fetchone() == (1,)
    session = joined(app)
    [claim] = taken(app, session)
    args, _ = app.values(app.engine).unpack_call(claim.job_id, claim.body)
    assert args == (1, "x" * 200_000)
    assert claim.job_id == made.id


def test_many_jobs_are_stored_in_one_transaction(app: Cicely, connection: Any) -> None:
    jobs = ship_of(app).options(connection=connection).delay_many([(n,) for n in range(700)])
    assert stored(app) == set()
    connection.commit()
    assert stored(app) == {made.id for made in jobs}


def test_apply_async_takes_the_option_as_well(app: Cicely, connection: Any) -> None:
    made = ship_of(app).apply_async((1,), connection=connection)
    connection.rollback()
    assert stored(app) == set()
    assert app.engine.get([made.id]) == [None]


def test_a_known_id_stands_for_itself_inside_a_transaction(app: Cicely, connection: Any) -> None:
    first = ship_of(app).options(id=stable("v1")).delay(1)
    second = ship_of(app).options(id=stable("v1"), connection=connection).delay(1)
    assert first.id == second.id
    connection.commit()
    assert stored(app) == {first.id}


def test_a_unique_key_is_held_from_inside_a_transaction_and_given_back_by_its_rollback(
    app: Cicely, connection: Any
) -> None:
    first = once_of(app).options(connection=connection).delay(1)
    again = once_of(app).options(connection=connection).delay(1)
    assert again.id == first.id
    connection.rollback()
    other = once_of(app).delay(1)
    same = once_of(app).options(connection=connection).delay(1)
    assert same.id == other.id
    connection.commit()
    assert stored(app) == {other.id}


def test_only_rows_are_added_and_no_lock_is_taken_that_another_enqueue_or_claim_waits_for(
    app: Cicely, connection: Any
) -> None:
    ship_of(app).delay(0)
    ship_of(app).options(connection=connection).delay(1)
    locks = connection.execute(
        "SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
    ).fetchall()
    assert {mode for (mode,) in locks} <= {"AccessShareLock", "RowExclusiveLock"}
    session = joined(app)
    [claim] = taken(app, session)
    app.engine.settle(session, [Succeeded(claim.token)])
    assert ship_of(app).delay(2).id in stored(app)
    app.engine.sweep(100)
    app.engine.queues()


# --- what is refused --------------------------------------------------------------------------
def test_an_engine_without_the_caller_s_database_says_which_promise_it_lacks(connection: Any) -> None:
    app = Cicely("shop", "memory://")
    app.use(MemoryEngine())

    @app.task
    def ship(order: int) -> None: ...

    with pytest.raises(Unsupported, match=r"transactional enqueue.*PostgreSQL"):
        ship.options(connection=connection).delay(1)


def test_a_connection_that_holds_no_transaction_is_refused(app: Cicely, server: Any) -> None:
    ship = ship_of(app)
    connection = psycopg.connect(server.url, autocommit=True)
    with pytest.raises(UsageError, match="commits each statement by itself"):
        ship.options(connection=connection).delay(1)
    connection.close()
    with pytest.raises(UsageError, match="is closed"):
        ship.options(connection=connection).delay(1)
    with pytest.raises(UsageError, match="no connection that Cicely knows"):
        ship.options(connection="postgresql://").delay(1)
    assert stored(app) == set()


def test_an_autocommit_connection_of_sqlalchemy_is_refused(app: Cicely, engine: sqlalchemy.Engine) -> None:
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with pytest.raises(UsageError, match="commits each statement by itself"):
        ship_of(app).options(connection=connection).delay(1)
    connection.close()
    with pytest.raises(UsageError, match="holds no transaction"):
        ship_of(app).options(connection=engine).delay(1)


def test_an_aborted_transaction_is_refused(app: Cicely, connection: Any, engine: sqlalchemy.Engine) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT 1 / 0")
    with pytest.raises(UsageError, match="an error aborted: roll it back"):
        ship_of(app).options(connection=connection).delay(1)
    with Session(engine) as session:
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            session.execute(sqlalchemy.text("SELECT 1 / 0"))
        with pytest.raises(UsageError, match="an error aborted: roll it back"):
            ship_of(app).options(connection=session).delay(1)


def test_an_asynchronous_connection_is_refused(app: Cicely, server: Any) -> None:

    async def offer() -> None:
        async with await psycopg.AsyncConnection.connect(server.url) as connection:
            with pytest.raises(UsageError, match="is asynchronous"):
                ship_of(app).options(connection=connection).delay(1)

    class AsyncSession:
        """Stands for SQLAlchemy's, which needs one more library."""

    asyncio.run(offer())
    with pytest.raises(UsageError, match="is asynchronous"):
        ship_of(app).options(connection=AsyncSession()).delay(1)


def test_adelay_and_a_batch_refuse_a_connection(app: Cicely, connection: Any) -> None:

    requests = ship_of(app).options(connection=connection)
    with pytest.raises(UsageError, match=r"call delay\(\) where its transaction is open"):
        asyncio.run(requests.adelay(1))
    with pytest.raises(UsageError, match="keeps its jobs together by itself"), app.batch():
        requests.delay(1)
    assert stored(app) == set()


def test_a_connection_to_another_database_is_refused_and_can_be_used_on(app: Cicely, server: Any) -> None:
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute("CREATE DATABASE elsewhere")
    with psycopg.connect(server.url, dbname="elsewhere") as connection:
        with pytest.raises(UsageError, match="database 'elsewhere'"):
            ship_of(app).options(connection=connection).delay(1)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_failure_inside_says_that_the_transaction_is_over(app: Cicely, connection: Any) -> None:
    connection.execute("SET TRANSACTION READ ONLY")
    with pytest.raises(EngineError, match=r"cannot go on .*read-only.*roll it back"):
        ship_of(app).options(connection=connection).delay(1)


# --- beside running jobs ----------------------------------------------------------------------
def test_an_open_transaction_keeps_nobody_waiting_and_its_jobs_are_found_after_the_commit(
    app: Cicely, connection: Any
) -> None:
    ship_of(app).delay_many([(n,) for n in range(300)])
    session = joined(app)
    late = ship_of(app).options(connection=connection).delay(1)
    wanted = partial(demand, 10, queues=("default",))
    slowest_s = 0.0
    seen = 0
    while seen < 300:
        began = time.perf_counter()
        claims = app.engine.claim(session, wanted()).claims
        slowest_s = max(slowest_s, time.perf_counter() - began)
        seen += len(claims)
        app.engine.settle(session, [Succeeded(claim.token) for claim in claims])
        app.engine.sweep(100)
    assert seen == 300
    assert slowest_s < 0.5
    assert app.engine.claim(session, wanted()).claims == ()
    connection.commit()
    assert [claim.job_id for claim in app.engine.claim(session, wanted()).claims] == [late.id]


def test_two_producers_with_open_transactions_do_not_wait_for_each_other(app: Cicely, server: Any) -> None:
    ship = ship_of(app)
    with psycopg.connect(server.url) as first, psycopg.connect(server.url) as second:
        ship.options(connection=first).delay(1)
        done = threading.Event()

        def another() -> None:
            ship.options(connection=second).delay(2)
            second.commit()
            done.set()

        thread = threading.Thread(target=another)
        thread.start()
        assert done.wait(5)
        thread.join()
        first.commit()
    assert len(stored(app)) == 2


def test_every_table_of_the_statements_is_named_with_its_schema() -> None:
    for duty, names in (("enqueue", None), ("blob", ("put", "watch", "read"))):
        for name, statement in statements(duty).items():
            if names is None or name in names:
                bare = qualified(statement, "s").replace('"s".', "@")
                for table in ("job", "tomb", "ready", "deferred", "expiring", "tag", "delta", "uniq", "blob"):
                    assert f"FROM {table} " not in bare, (name, table)
                    assert f"INTO {table} " not in bare, (name, table)


def test_the_state_of_a_committed_job_is_ready(app: Cicely, connection: Any) -> None:
    made = ship_of(app).options(connection=connection).delay(1)
    connection.commit()
    assert app.job(made.id).state is State.READY
    assert isinstance(app.engine, PostgresEngine)
