"""Transactions of SQLAlchemy and Django hold jobs as well, and their commit wakes a worker."""

from typing import Any

import pytest
import sqlalchemy
from postgres_shop import AT_ONCE_S, Bell, app, connection, engine, ship_of, stored, wrapper
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from cicely import Cicely
from cicely.errors import UsageError

__all__ = ["app", "connection", "engine", "wrapper"]


# --- SQLAlchemy -------------------------------------------------------------------------------
def test_a_session_s_commit_stores_and_rings(app: Cicely, engine: sqlalchemy.Engine) -> None:
    waiting = Bell(app)
    with Session(engine) as session:
        made = ship_of(app).options(connection=session).delay(1)
        assert stored(app) == set()
        assert not waiting.is_rung(0.05)
        session.commit()
    assert stored(app) == {made.id}
    assert waiting.is_rung(AT_ONCE_S)


def test_a_session_s_rollback_leaves_nothing_and_its_next_commit_nothing_either(
    app: Cicely, engine: sqlalchemy.Engine
) -> None:
    with Session(engine) as session:
        ship_of(app).options(connection=session).delay(1)
        session.rollback()
        session.execute(sqlalchemy.text("SELECT 1"))
        session.commit()
        assert stored(app) == set()
        made = ship_of(app).options(connection=session).delay(2)
        session.commit()
    assert stored(app) == {made.id}


def test_a_session_rings_for_the_whole_transaction_and_not_for_a_savepoint(
    app: Cicely, engine: sqlalchemy.Engine
) -> None:
    waiting = Bell(app)
    with Session(engine) as session:
        with session.begin_nested():
            ship_of(app).options(connection=session).delay(1)
        assert not waiting.is_rung(0.1)
        session.commit()
    assert waiting.is_rung(AT_ONCE_S)


def test_a_scoped_session_will_do(app: Cicely, engine: sqlalchemy.Engine) -> None:
    sessions = scoped_session(sessionmaker(engine))
    made = ship_of(app).options(connection=sessions).delay(1)
    sessions.commit()
    sessions.remove()
    assert stored(app) == {made.id}


def test_a_connection_of_sqlalchemy_stores_and_rings(app: Cicely, engine: sqlalchemy.Engine) -> None:
    waiting = Bell(app)
    with engine.begin() as connection:
        made = ship_of(app).options(connection=connection).delay(1)
        assert not waiting.is_rung(0.05)
    assert stored(app) == {made.id}
    assert waiting.is_rung(AT_ONCE_S)
    with engine.connect() as connection:
        ship_of(app).options(connection=connection).delay(2)
        connection.rollback()
        other = ship_of(app).options(connection=connection).delay(3)
        connection.commit()
    assert stored(app) == {made.id, other.id}


# --- Django -----------------------------------------------------------------------------------
def test_an_atomic_block_stores_and_rings(app: Cicely, wrapper: Any) -> None:
    from django.db import transaction

    waiting = Bell(app)
    with transaction.atomic():
        made = ship_of(app).options(connection=wrapper).delay(1)
        assert stored(app) == set()
        assert not waiting.is_rung(0.05)
    assert stored(app) == {made.id}
    assert waiting.is_rung(AT_ONCE_S)


def test_an_atomic_block_that_raises_leaves_nothing(app: Cicely, wrapper: Any) -> None:
    from django.db import transaction

    def break_off() -> None:
        with transaction.atomic():
            ship_of(app).options(connection=wrapper).delay(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert stored(app) == set()


def test_a_django_connection_outside_a_block_or_to_another_database_is_refused(
    app: Cicely, wrapper: Any
) -> None:
    from django.db import connections, transaction

    with pytest.raises(UsageError, match=r"outside transaction\.atomic"):
        ship_of(app).options(connection=wrapper).delay(1)
    with pytest.raises(UsageError, match="to sqlite, not to PostgreSQL"), transaction.atomic(using="other"):
        ship_of(app).options(connection=connections["other"]).delay(1)
