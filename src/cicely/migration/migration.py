"""A migration under live traffic: split, compare, drain, verify, finish."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cicely.core.units import Duration, duration_s
from cicely.errors import ConfigError, EngineError, UsageError
from cicely.migration.accounts import Accounts, Entry, FileAccounts, How, MemoryAccounts
from cicely.migration.comparison import Comparison, Margins, compared
from cicely.migration.routing import Mode, Which, chosen, others, point_of
from cicely.migration.shares import EngineShares, Shares
from cicely.migration.sides import Reading, Side, Standing, side_of
from cicely.migration.traffic import Traffic, decoded, percent_of
from cicely.migration.verification import Book, Verification, book_of, verified

#: The stored share is read again after this, so that a change is followed within a second.
REFRESH_S: Final = 0.5
#: After this, nobody splits by a share that was replaced.
FOLLOWED_S: Final = 1.0
_LOOK_S: Final = 0.1
_PAGE: Final = 100

log = logging.getLogger("cicely.migration")


class Migration:
    """What is submitted, split between an old and a new side.

    A side is a task, an app with one task, a queue, or two functions: `submit(job_id, payload)`,
    which raises where it does not accept, and `status(job_id)`, which returns a Standing or None.

    `percent` is the share of the new side until one is stored under `name` (by `set`, or by
    `cicely traffic set`); every process follows a stored one within a second. `mode` says what
    becomes of a job on the other side: "track" notes its id, "shadow" runs it there as well, to be
    compared, "fallback" gives it the job when the first refuses or is down. `accounts` is the file
    in which all processes of the migration write down what was accepted; without it, each knows
    only its own, until it ends. `shares` is where the share is stored, by default the engine of the
    side that has one. `reading` makes of a task's result what is compared.
    """

    def __init__(
        self,
        *,
        old: object,
        new: object,
        percent: float = 0.0,
        name: str = "default",
        mode: Mode | str = Mode.TRACK,
        accounts: Accounts | str | Path | None = None,
        shares: Shares | None = None,
        reading: Reading | None = None,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.mode = _mode(mode)
        self._sides = {Which.OLD: side_of(old, reading), Which.NEW: side_of(new, reading)}
        self._accounts = _accounts(accounts)
        self._shares = shares or _shares_of(*self._sides.values())
        self._chance = chance
        self._clock = clock
        self._sleep = sleep
        self._current = Traffic(percent_of(percent))
        self._read_at = -math.inf
        self._reading_lock = threading.Lock()

    # --- the split ----------------------------------------------------------------------------
    def submit(self, job_id: str, payload: Any, *, key: str | None = None) -> Which:
        """Give a job to one side, by chance or by `key`, and return which accepted it.

        Jobs of one key stay together. Whoever may repeat a submission names a key, such as the job's id:
        by chance it could go to the other side. Raises what the side raises; then nothing was
        accepted, or, where it broke off, `verify` finds out.
        """
        traffic = self.traffic()
        point = self._chance() * 100 if key is None else point_of(key)
        first = chosen(traffic, point)
        spare = others(traffic, self.mode, first)
        if self.mode is Mode.FALLBACK and spare:
            taker = self._taken_by_either(job_id, payload, first)
        else:
            self._sides[first].submit(job_id, payload)
            taker = first
        self._write_down(job_id, taker, spare)
        if self.mode is Mode.SHADOW and spare:
            self._copy(job_id, payload, taker.other)
        return taker

    def _taken_by_either(self, job_id: str, payload: Any, first: Which) -> Which:
        try:
            self._sides[first].submit(job_id, payload)
        except Exception as refusal:  # noqa: BLE001  (a side refuses by whatever it raises)
            log.warning("the %s side does not take job %s: %s", first, job_id, refusal)
            try:
                self._sides[first.other].submit(job_id, payload)
            except Exception:
                log.exception("neither does the other side")
                raise refusal from None
            return first.other
        return first

    def _write_down(self, job_id: str, taker: Which, spare: Sequence[Which]) -> None:
        entries = [Entry(job_id, taker, How.ACCEPTED)]
        if self.mode is Mode.TRACK:
            entries.append(Entry(job_id, taker.other, How.NOTED))
        if self.mode is Mode.SHADOW and spare:
            # Before the copy is sent: a copy that nobody wrote down would pass for a second job.
            entries.append(Entry(job_id, taker.other, How.SHADOWED))
        self._accounts.add(entries)

    def _copy(self, job_id: str, payload: Any, which: Which) -> None:
        try:
            self._sides[which].submit(job_id, payload)
        except Exception as refusal:  # noqa: BLE001  (the job is accepted: a missing copy is not its caller's)
            log.warning("the %s side takes no copy of job %s: %s", which, job_id, refusal)

    def status(self, job_id: str) -> Standing:
        """Return how a job stands on the side that knows it, the new one first.

        Raises what a side raises; with "fallback" only where the other one does not know the job.
        """
        away: Exception | None = None
        for which in (Which.NEW, Which.OLD):
            try:
                standing = self._sides[which].standings([job_id])[job_id]
            except Exception as trouble:
                if self.mode is not Mode.FALLBACK:
                    raise
                away = trouble
                continue
            if standing.is_known:
                return standing
        if away is not None:
            raise away
        return Standing()

    def holder(self, job_id: str) -> Which | None:
        """Return the side that has a job already, the new one first; None where neither has.

        Ask before a submission that may be a repetition: the share may be another one than the first
        time. The accounts have the job then, also where a process died between both. Raises what a
        side raises; with "fallback" the accounts speak for one that cannot be asked.
        """
        holders = [which for which in (Which.NEW, Which.OLD) if self._knows(which, job_id)]
        # What both have in shadow mode is written down: one of them got a copy.
        if self.mode is not Mode.SHADOW or len(holders) == 1:
            self._accounts.add(Entry(job_id, which, How.ACCEPTED) for which in holders)
        return next(iter(holders), None)

    def _knows(self, which: Which, job_id: str) -> bool:
        try:
            return self._sides[which].standings([job_id])[job_id].is_known
        except Exception as trouble:
            if self.mode is not Mode.FALLBACK:
                raise
            log.warning("the %s side cannot be asked for job %s: %s", which, job_id, trouble)
            return Entry(job_id, which, How.ACCEPTED) in self._accounts.entries_of(job_id)

    # --- the share ----------------------------------------------------------------------------
    def traffic(self) -> Traffic:
        """Return the split as it holds now, read from where it is stored at most half a second ago."""
        if self._clock() - self._read_at >= REFRESH_S:
            # Of several threads one reads; the others go on, unless nothing was ever read.
            is_first = self._read_at == -math.inf
            if self._reading_lock.acquire(blocking=is_first):
                try:
                    self._refresh()
                finally:
                    self._reading_lock.release()
        return self._current

    def _refresh(self) -> None:
        if self._clock() - self._read_at < REFRESH_S:
            return
        try:
            stored = self._shares.read().get(self.name)
        except EngineError as error:
            log.warning("the share of migration %s cannot be read and stays as it is: %s", self.name, error)
            stored = None
        if stored is not None:
            self._current = decoded(stored)
        self._read_at = self._clock()

    def set(self, percent: float) -> None:
        """Let so many percent go to the new side, in every process within a second; 0 is the roll-back."""
        self._store(self._stored().split(percent))

    def _stored(self) -> Traffic:
        stored = self._shares.read().get(self.name)
        return self._current if stored is None else decoded(stored)

    def _store(self, traffic: Traffic) -> None:
        self._shares.write(self.name, traffic.encoded())
        self._current, self._read_at = traffic, self._clock()

    # --- the end ------------------------------------------------------------------------------
    def compare(self, margins: Margins | None = None) -> Comparison:
        """Compare what both sides made of the jobs that were sent to both (mode "shadow")."""
        ids = self._book().pairs()
        old, new = (self._sides[which].standings(ids) for which in (Which.OLD, Which.NEW))
        return compared({job_id: (old[job_id], new[job_id]) for job_id in ids}, margins or Margins())

    def drain(self, timeout: Duration = "5m") -> list[str]:
        """Give the old side no more jobs and wait until it has worked off those that it has.

        Returns those that it has not ended when the time is over, or raises what it raises then; until
        then a side that cannot be asked is asked again. `set` calls it off.
        """
        give_up_at = self._clock() + duration_s(timeout, name="timeout")
        self._store(self._stored().draining())
        self._sleep(FOLLOWED_S)
        left = self._book().ids_of(Which.OLD)
        while left := self._not_ended(left):
            if self._clock() >= give_up_at:
                standings = self._sides[Which.OLD].standings(left)
                return [job_id for job_id in left if not standings[job_id].has_ended]
            self._sleep(_LOOK_S)
        return []

    def _not_ended(self, job_ids: list[str]) -> list[str]:
        """Return the jobs of the old side without those that it has ended.

        Those behind a page with one that it has not are not asked for: whoever is to work must not be
        kept from it by questions.
        """
        for start in range(0, len(job_ids), _PAGE):
            page = job_ids[start : start + _PAGE]
            try:
                standings = self._sides[Which.OLD].standings(page)
            except Exception as trouble:  # noqa: BLE001  (a side says by whatever it raises that it is away)
                log.warning("the old side cannot be asked how its jobs stand: %s", trouble)
                return job_ids[start:]
            if left := [job_id for job_id in page if not standings[job_id].has_ended]:
                return left + job_ids[start + _PAGE :]
        return []

    def verify(self) -> Verification:
        """Judge every accepted job by what both sides say of it now: each must have ended on exactly one."""
        book = self._book()
        ids = list(book.accepted)
        return verified(book, {which: side.standings(ids) for which, side in self._sides.items()})

    def finish(self) -> Verification:
        """Take the old side out of use.

        Raises UsageError unless it was drained, and no job is lost, on both sides or unended on the old
        one; the new side may be at work.
        """
        finished = self._stored().finished()
        found = self.verify()
        if not found.is_settled:
            raise UsageError(f"the migration {self.name} cannot be finished: {found}")
        self._store(finished)
        return found

    def _book(self) -> Book:
        return book_of(self._accounts.entries())


def _mode(given: Mode | str) -> Mode:
    try:
        return Mode(given)
    except ValueError:
        raise ConfigError(f"mode={given!r}: one of {', '.join(Mode)}") from None


def _accounts(given: Accounts | str | Path | None) -> Accounts:
    if given is None:
        return MemoryAccounts()
    return FileAccounts(given) if isinstance(given, str | Path) else given


def _shares_of(old: Side, new: Side) -> Shares:
    engine = new.engine or old.engine
    if engine is None:
        raise ConfigError(
            "neither side has an engine of Cicely's that could keep the share: "
            "name a place, as in shares=FileShares('/var/lib/service/traffic')"
        )
    return EngineShares(engine)
