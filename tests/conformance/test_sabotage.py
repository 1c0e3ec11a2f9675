"""The suite is tested too: each bug of `sabotages` turns the right promise red."""

import pytest
import sabotages as s
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from cicely.engines.memory import MemoryEngine
from cicely.engines.sqlite.transaction import Transaction
from cicely.testing.conformance import Capability, Case, Harness, cases, promises
from cicely.testing.conformance.embedded import MemoryHarness, SqliteHarness
from cicely.testing.machine import machine_for


def _count_arrivals_only(txn: Transaction, queue: int, _source: int, target: int) -> None:
    txn.count(queue, target, 1)


#: Each bug, and a behaviour of the suite that must notice it.
NOTICED_BY = {
    s.SettlesWithoutTokenCheck: "fencing",
    s.HandsOutRunningJobs: "claiming",
    s.AcknowledgesBeforeItRecords: "settling",
    s.RetiresWithoutHandingBack: "sessions",
    s.RescuesWhateverTheBeat: "rescue",
    s.RescuesForFree: "rescue",
    s.RetriesAtOnce: "retries",
    s.LosesCheckpoints: "progress",
    s.HandsOutExpiredJobs: "expiry",
    s.IgnoresUniqueKeys: "identity",
    s.ForgetsReceipts: "receipts",
    s.IgnoresPriority: "order",
    s.HandsOutPausedQueues: "pausing",
    s.ForgetsToCancelRunningJobs: "cancelling",
    s.DropsResultsOfCancelledJobsLate: "cancelling",
    s.KeepsTheFence: "fencing",
    s.ReusesTokens: "claiming",
    s.KeepsClaimsWhoseReplyWasLost: "sessions",
    s.TakesMoreWhenAClaimIsRepeated: "claiming",
    s.LetsClosedSessionsJoinAgain: "sessions",
    s.LetsClosedSessionsClaim: "sessions",
    s.LeaksCounts: "reviving",
    s.ForgetsTombstones: "identity",
    s.NeverTakesMessagesBack: "messages",
    s.SavesUnderAnyToken: "progress",
    s.RevivesWithOldTallies: "reviving",
    s.ForgetsToRing: "bells",
    s.HandsBackAfterOneBeat: "sessions",
    s.ReleasesByOneParentOfMany: "edges",
    s.ReleasesByAnyEnd: "cascades",
    s.LeavesEdgesUndecidedByARevival: "undoing",
    s.StartsBeforeThePublication: "publishing",
    s.HandsAnEventOutTwice: "suspending",
    s.OverwritesSteps: "suspending",
    s.TicksTwice: "schedules",
    s.CountsWhatWasKnown: "rollups",
    s.CountsClaimsThatCameBack: "rollups",
    s.ForgetsWhatFollows: "rollups",
    s.TellsOfStartsAgain: "events",
    s.SkipsEvents: "events",
    s.CountsNoHolders: "limits",
    s.CountsHoldersTwice: "acquiring",
    s.KeepsWhatClaimsAcquired: "acquiring",
    s.AcquiresTwiceWhenRepeated: "acquiring",
    s.ServesLanesByRankAlone: "lanes",
    s.LetsTheIdleSaveUp: "lanes",
    s.ChargesTheUnstarted: "rates",
    s.NeverCorrectsCosts: "rates",
    s.TakesBeforeItLooksAtAllKeys: "rates",
    s.AnySuccessClosesABreaker: "breakers",
    s.ChargesProbes: "probes",
    s.LetsOneJobProbeForEver: "probes",
    s.SlowsNobody: "refusals",
    s.GivesUnitsTwice: "resources",
    s.NeverLosesPatience: "patience",
    s.HidesForWhomRoomIsKept: "surroundings",
    s.LetsOthersPassForEver: "precedence",
    s.GivesWhatIsReserved: "reservations",
    s.RunsWhatDrawsAnywhere: "reservations",
    s.BindsOnlyWhatComesLater: "reservations",
    s.KeepsWhatFails: "reservations",
    s.ReservesForEver: "unreserving",
    s.ReservesOfWorkersThatAreGone: "unreserving",
    s.RetriesWhereItFailed: "accepting",
    s.StoresBeyondTheBacklog: "backlogs",
    s.ForgetsWhenValvesOpen: "rates",
    s.ForgetsGaugesOfWhatIsConfigured: "settings",
    s.ShowsNoHolders: "surroundings",
    s.RingsForWhatIsHeldBack: "ringing",
}

#: Rare in random sequences, or not looked at by them: these are left to the promises.
RARE = {
    s.DropsResultsOfCancelledJobsLate,
    s.ForgetsToCancelRunningJobs,
    s.ForgetsToRing,
    s.ForgetsTombstones,
    s.NeverTakesMessagesBack,
    s.TicksTwice,
    s.HandsAnEventOutTwice,
    s.OverwritesSteps,
    s.RingsForWhatIsHeldBack,
    s.AnySuccessClosesABreaker,
    s.AcquiresTwiceWhenRepeated,
    s.CountsHoldersTwice,
    s.ForgetsGaugesOfWhatIsConfigured,
    s.ForgetsWhenValvesOpen,
    s.KeepsWhatClaimsAcquired,
    s.LetsOthersPassForEver,
    s.LetsTheIdleSaveUp,
    s.NeverLosesPatience,
    s.HidesForWhomRoomIsKept,
    s.ChargesProbes,
    s.LetsOneJobProbeForEver,
    s.RetriesWhereItFailed,
    s.BindsOnlyWhatComesLater,
    s.RunsWhatDrawsAnywhere,
    s.ReservesForEver,
    s.ReservesOfWorkersThatAreGone,
    s.ShowsNoHolders,
    s.StoresBeyondTheBacklog,
    s.SkipsEvents,
}
COMMON = [bug for bug in NOTICED_BY if bug not in RARE]


@pytest.mark.parametrize("bug", NOTICED_BY, ids=lambda bug: bug.__name__)
def test_the_suite_notices(bug: type[MemoryEngine]) -> None:
    promised = [c for c in cases(_harness(bug)) if c.promise.behaviour == NOTICED_BY[bug]]

    assert any(_is_broken(case) for case in promised)


#: The same for the SQLite engine: what is replaced, by what, and a behaviour that must notice it.
SQLITE_BUGS = {
    "counters leak": ("transaction.Transaction.move", _count_arrivals_only, "searching"),
    "no token check": ("settling.is_token_of", lambda *_: True, "fencing"),
    "receipts forgotten": ("settling._Settling._keep_receipt", lambda *_: None, "receipts"),
    "outcomes not written": ("settling._Settling.write", lambda _: None, "settling"),
    "sessions never closed": ("sessions.close", lambda *_: None, "sessions"),
    "priority ignored": ("enqueueing.rank", lambda *_, **__: 0, "order"),
    "expired jobs stay": ("claiming.expire", lambda *_: None, "expiry"),
}


@pytest.mark.parametrize("bug", SQLITE_BUGS)
def test_the_suite_notices_on_sqlite(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, replacement, behaviour = SQLITE_BUGS[bug]
    promised = [c for c in cases(SqliteHarness) if c.promise.behaviour == behaviour]

    monkeypatch.setattr(f"cicely.engines.sqlite.{target}", replacement)

    assert any(_is_broken(case) for case in promised)


@pytest.mark.parametrize("bug", COMMON, ids=lambda bug: bug.__name__)
def test_random_verbs_notice(bug: type[MemoryEngine]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(
            machine_for(_harness(bug)),
            settings=settings(
                max_examples=2000,
                stateful_step_count=40,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )


def _harness(bug: type[MemoryEngine]) -> type[Harness]:
    """Return a harness with the bug, which promises no more than it takes to notice it."""
    needed = {p.requires for p in promises() if p.behaviour == NOTICED_BY[bug]}
    flow = {Capability.FLOW, Capability.RESERVATIONS} - frozenset().union(*needed)

    class Sabotaged(MemoryHarness):
        name = bug.__name__
        capabilities = MemoryHarness.capabilities - flow

        def __init__(self) -> None:
            super().__init__()
            self.shared = bug(now=self.clock.now)

    return Sabotaged


def _is_broken(case: Case) -> bool:
    """Return whether the promise is seen to be broken: a failed assertion, or too few claims."""
    try:
        case.keep()
    except (AssertionError, ValueError):
        return True
    return False
