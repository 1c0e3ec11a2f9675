"""The producer of the comparison: what it asks a peer for, and that it stops in time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from benchmarks.peers import ledger, producer
from benchmarks.peers.adapter import Adapter, NotOffered


class Fake(Adapter):
    """Takes `page_s` for each call; a job that is asked for has run."""

    def __init__(self, *, page_s: float = 0.0, has_bulk: bool = True) -> None:
        self.pages: list[int] = []
        self.singles = 0
        self._page_s = page_s
        self._has_bulk = has_bulk

    async def enqueue(self, task: str, *numbers: int) -> Any:
        self.singles += 1
        if numbers:
            ledger.write(ledger.Entry(numbers[0], 1, ledger.now(), 0.0))

    async def enqueue_many(self, task: str, count: int) -> None:
        if not self._has_bulk:
            raise NotOffered("only one by one")
        self.pages.append(count)
        await asyncio.sleep(self._page_s)


def run(work: str, adapter: Adapter, count: int, *, limit_s: float = 10.0) -> Any:
    return asyncio.run(producer.WORKS[work](adapter, count, ledger.now() + limit_s))


def test_pages_grow_for_those_who_are_quick() -> None:
    fake = Fake()

    assert run("bulk", fake, 2_500)["jobs"] == 2_500
    assert fake.pages == [100, 1_000, 1_000, 400]


def test_pages_stay_small_for_those_who_are_slow_and_end_at_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producer, "LONG_S", 0.001)
    fake = Fake(page_s=0.005)

    moved = run("bulk", fake, 100_000, limit_s=0.05)

    assert set(fake.pages) == {100}
    assert moved["jobs"] == sum(fake.pages) < 100_000


def test_who_has_no_bulk_is_filled_one_by_one_but_not_measured_in_bulk() -> None:
    fake = Fake(has_bulk=False)

    assert run("fill_noop", fake, 7)["jobs"] == fake.singles == 7
    with pytest.raises(NotOffered, match="only one by one"):
        run("bulk", fake, 7)


def test_latencies_come_from_the_ledger_and_leave_out_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ledger.FILE_VARIABLE, str(tmp_path / "ledger"))
    (tmp_path / "ledger").touch()

    seen = run("latency", Fake(), 3)

    assert len(seen) == 3
    assert all(0 <= one["start_s"] < 5 and one["result_s"] is None for one in seen)
