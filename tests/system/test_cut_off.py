"""Two workers behind separate proxies, one of them cut off from the engine for three leases.

What it had started runs elsewhere, after its own processes are dead; what it says when it is back is
refused; and then it works again. Where this is allowed, it lives in a pid namespace of its own, so that
nobody else could have killed its processes. Invariants I2, I3, I4 and I5.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import jobs_app
import pytest
from backends import NAMES, empty_place, server

from cicely.core.outcome import Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Verdict
from cicely.testing.fleet import ELSEWHERE, WorkerProcess, are_gone, can_be_elsewhere, known, wait_for
from cicely.testing.ledger import Ledger, judge
from cicely.testing.proxy import Proxy, proxy_before
from cicely.worker.options import WorkerOptions

LEASE_S = 2.0
COROUTINES = 6


class Pair:
    """An engine, two proxies before it, and a worker behind each."""

    def __init__(self, place: str, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self.shop = jobs_app.build(place)
        self.engine = connect(place)
        self.engine.open()
        self.workers: list[WorkerProcess] = []

    def start(self, proxy: Proxy) -> WorkerProcess:
        url = proxy.before(self.place)
        worker = WorkerProcess(
            WorkerOptions(
                url=url,
                target="jobs_app:app",
                processes=1,
                coroutines=COROUTINES,
                lease_s=LEASE_S,
                python_path=(str(Path(__file__).parent),),
            ),
            log=self.folder / f"worker-{len(self.workers)}.log",
            environment={"CICELY_LEDGER": str(self.ledger.folder), "CICELY_URL": url},
            inside=ELSEWHERE if can_be_elsewhere() else (),
        )
        self.workers.append(worker)
        worker.await_children(1)
        return worker

    def await_lines(self, what: str, ids: list[str], *, within_s: float = 20.0) -> None:
        """Wait until each of these jobs has such a line in the ledger."""
        wait_for(
            lambda: {line.job_id for line in self.ledger.lines() if line.what == what} >= {*ids},
            within_s=within_s,
            what="\n".join(worker.said for worker in self.workers),
        )

    def starts(self, job_id: str) -> int:
        return sum(1 for line in self.ledger.lines() if (line.what, line.job_id) == ("start", job_id))

    def await_ends(self, ids: list[str], *, within_s: float = 20.0) -> None:
        wait_for(
            lambda: all(record and record.state.is_final for record in self.engine.get(ids)),
            within_s=within_s,
            what="\n".join(worker.said for worker in self.workers),
        )

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.shop.app.close()
        self.engine.close()


@pytest.fixture(params=NAMES)
def place(request: pytest.FixtureRequest) -> str:
    return empty_place(request.param, server(request.param))


@pytest.fixture
def proxies(place: str) -> Iterator[tuple[Proxy, Proxy]]:
    one, other = proxy_before(place), proxy_before(place)
    assert one is not None
    assert other is not None
    with one, other:
        yield one, other


@pytest.fixture
def workers(place: str, proxies: tuple[Proxy, Proxy], folder: Path) -> Iterator[Pair]:
    pair = Pair(place, folder)
    yield pair
    for proxy in proxies:
        proxy.rejoin()
    pair.close()


def test_a_worker_that_is_cut_off_is_dead_before_its_jobs_run_elsewhere(
    workers: Pair, proxies: tuple[Proxy, Proxy]
):
    lost, kept = proxies
    cut_off = workers.start(lost)
    long = [workers.shop.naps_async_at_first.delay(60.0).id for _ in range(COROUTINES - 2)]
    words = str(workers.folder / "token")
    told = workers.shop.tells_its_token.delay(words, 0.5).id
    late = workers.shop.naps_async_at_first.delay(0.5).id
    workers.await_lines("start", [*long, told, late])
    children = known(cut_off.children())

    lost.cut()
    cut_at = time.monotonic()
    elsewhere = workers.start(kept)
    workers.await_ends([*long, told, late])
    ran_elsewhere_after_s = time.monotonic() - cut_at
    children_were_gone = are_gone(children)
    time.sleep(max(0.0, cut_at + 3 * LEASE_S - time.monotonic()))
    lost.rejoin()
    token = bytes.fromhex(Path(words).read_text().split()[0])
    [session] = {record.attempts[0].session for record in workers.engine.get([told]) if record}
    verdicts = workers.engine.settle(session, [Succeeded(token)]).verdicts

    assert children
    assert children_were_gone
    # They ended while they could tell nobody, and their words came when others had run them again.
    ended = {line.job_id for line in workers.ledger.lines() if (line.what, line.fence) == ("end", 1)}
    assert ended >= {told, late}
    # It gives up at 0.8 of a lease; the others must have watched it for a whole one.
    assert ran_elsewhere_after_s > 0.8 * LEASE_S
    assert verdicts == (Verdict.STALE,)
    # It is back: alone again, it does the work.
    elsewhere.close()
    again = [workers.shop.nothing.delay().id for _ in range(10)]
    workers.await_ends(again)
    ids = [*long, told, late, *again]
    judgement = judge(
        workers.ledger,
        attempted=len(ids),
        acknowledged=ids,
        jobs=dict(zip(ids, workers.engine.get(ids), strict=True)),
    )
    assert judgement.is_clean, judgement
    assert [workers.starts(job_id) for job_id in ids] == [2] * len([*long, told, late]) + [1] * 10
