"""A day of three workers in virtual time, over and over; `--seed N --trace` shows one that went wrong."""

import subprocess
import sys

import cluster_sabotages as sabotages
import pytest

from cicely.testing.cluster import Cluster
from cicely.testing.cluster.__main__ import verdicts

SEEDS = 200


@pytest.mark.timeout(900)
def test_every_promise_is_kept_whatever_breaks():
    broken = [f"seed {v.seed}: {v.broken}" for v in verdicts(range(SEEDS), jobs=2) if v.broken]

    assert broken == []


def test_a_seed_is_the_same_day_in_every_process():
    program = "from cicely.testing.cluster import Cluster; print(Cluster(3).live().digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert digests == {Cluster(3).live().digest + "\n"}


@pytest.mark.parametrize(
    "sabotage",
    [
        sabotages.rescues_without_a_look_at_the_beat,
        sabotages.the_owner_never_gives_up,
        sabotages.a_retired_session_may_claim,
        sabotages.any_token_settles,
        sabotages.retiring_hands_nothing_back,
        sabotages.receipts_are_forgotten,
        sabotages.one_beat_hands_back,
        sabotages.every_beat_follows_the_last,
        sabotages.a_claim_starts_however_old_it_is,
    ],
)
def test_a_bug_is_found(sabotage):
    with sabotage():
        assert any(Cluster(seed).live().broken for seed in range(SEEDS))
