"""A small app on the memory engine, and the command line run against it."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from cicely.cli.main import cli
from cicely.core.job import Claim, Kind
from cicely.core.outcome import ErrorRecord, Failed, Outcome, Succeeded
from cicely.engines.contract import Ask, Demand, Session

_NUMBERS = itertools.count(1)
_MODULE = """
from cicely import Cicely
from cicely.engines.memory import MemoryEngine

app = Cicely("shop", "memory://")
engine = MemoryEngine()
app.use(engine)
app.queue("slow", priority=2)

@app.task(name="shop.pack")
def pack(order, note=""):
    return order

@app.task(name="shop.ship", queue="slow", tags=["eu"])
def ship(order):
    return order
"""


class Shop:
    """The app, a worker played by hand, and a terminal."""

    def __init__(self, folder: Path) -> None:
        self.name = f"cli_shop_{next(_NUMBERS)}"
        (folder / f"{self.name}.py").write_text(_MODULE)
        sys.path.insert(0, str(folder))
        try:
            self.module = importlib.import_module(self.name)
        finally:
            sys.path.remove(str(folder))
        self.engine = self.module.engine
        self.pack = self.module.pack
        self.ship = self.module.ship
        self._requests = itertools.count(1)

    def run(self, *arguments: str, columns: int | None = None, answer: str = "") -> Result:
        """Run a command of the command line on this app."""
        command, *rest = arguments
        env = {"COLUMNS": str(columns)} if columns else {}
        return CliRunner().invoke(cli, [command, "--app", f"{self.name}:app", *rest], env=env, input=answer)

    def join(self, session: Session | None = None) -> Session:
        """Have a worker's session join."""
        session = session or Session(
            id="child-1",
            worker="worker-1",
            name="box:1/1",
            tasks=frozenset({"shop.pack", "shop.ship"}),
            queues=("default", "slow"),
        )
        self.engine.join(session)
        return session

    def claim(self, *, slots: int = 1) -> list[Claim]:
        """Claim jobs for the session."""
        session = self.join()
        request = next(self._requests).to_bytes(8, "big")
        kinds = (Kind.SYNC, Kind.ASYNC, Kind.ISOLATED)
        demand = Demand(request, ("default", "slow"), (Ask(kinds, slots),))
        return list(self.engine.claim(session.id, demand).claims)

    def settle(self, outcome: Outcome) -> None:
        """Settle one claim."""
        self.engine.settle("child-1", [outcome])

    def succeed(self, value: object = None) -> None:
        """Let the next job succeed."""
        [claim] = self.claim()
        data = self.module.app.values(self.engine).pack(claim.job_id, value, where="the result")
        self.settle(Succeeded(claim.token, data))

    def fail(self, message: str = "no such order", *, traceback: str = "") -> str:
        """Let the next job fail; return its id."""
        [claim] = self.claim()
        error = ErrorRecord("KeyError", message, traceback)
        self.settle(Failed(claim.token, "error", error.encoded()))
        return claim.job_id
