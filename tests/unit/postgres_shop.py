"""A shop whose jobs lie beside its tables: what the tests of transactional enqueue share."""

from collections.abc import Iterator
from typing import Any

import django
import psycopg
import pytest
import sqlalchemy
from django.conf import settings

from cicely import Cicely
from cicely.engines.contract import Session as Registered
from cicely.testing.conformance.bench import demand
from cicely.testing.postgres_server import DATABASE, USER, PostgresServer

#: Below the second that passes until an idle worker looks for itself.
AT_ONCE_S = 0.9


@pytest.fixture
def app(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Cicely]:
    schema = f"s{abs(hash(request.node.name)) % 10**12}"
    app = Cicely("shop", f"{server.url}?schema={schema}")

    @app.task(name="ship")
    def ship(order: int, note: str = "") -> int:
        return order

    @app.task(name="once", unique="args")
    def once(order: int) -> int:
        return order

    yield app
    app.close()


@pytest.fixture
def connection(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url) as connection:
        yield connection


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(server.url.replace("postgresql://", "postgresql+psycopg://"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def wrapper(server: PostgresServer) -> Iterator[Any]:
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": DATABASE,
                "USER": USER,
                "HOST": "127.0.0.1",
                "PORT": server.port,
            },
            "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        }
    )
    django.setup()
    from django.db import connection

    yield connection
    connection.close()


def ship_of(app: Cicely) -> Any:
    from cicely.tasks import registered

    return registered(app._connection, app.registry.task("ship"))


def once_of(app: Cicely) -> Any:
    from cicely.tasks import registered

    return registered(app._connection, app.registry.task("once"))


def stored(app: Cicely) -> set[str]:
    return {found.id for found in app.jobs()}


def joined(app: Cicely) -> str:
    app.engine.join(Registered(id="s", worker="s", tasks=frozenset({"ship", "once"})))
    return "s"


def taken(app: Cicely, session: str) -> Any:
    return app.engine.claim(session, demand(queues=("default",))).claims


class Bell:
    """A waiting session's bell, armed; notes when it was rung."""

    def __init__(self, app: Cicely) -> None:
        self.session = joined(app)
        self.bell = app.engine.doorbell(self.session)
        self.bell.arm()

    def is_rung(self, within_s: float) -> bool:
        import select

        return bool(select.select([self.bell.fileno()], [], [], within_s)[0])
