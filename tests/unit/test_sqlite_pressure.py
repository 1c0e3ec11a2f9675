"""While a reader keeps the write-ahead log from being used anew, those who write much wait."""

from __future__ import annotations

import pytest

from cicely.engines.sqlite.pressure import LONG_BYTES, pause_s

MIB = 1 << 20


def test_nobody_waits_while_the_log_is_short():
    assert pause_s(8 * MIB, 500) == 0
    assert pause_s(LONG_BYTES, 500) == 0


def test_the_wait_doubles_with_every_six_mebibytes_up_to_a_second():
    waits = [pause_s(LONG_BYTES + more * MIB, 400) for more in (6, 12, 18, 48, 60, 1 << 20)]

    assert waits == pytest.approx([0.004, 0.008, 0.016, 0.512, 1.0, 1.0])


def test_a_single_job_waits_little_however_long_the_log_is():
    assert pause_s(LONG_BYTES * 4, 1) < 0.005
