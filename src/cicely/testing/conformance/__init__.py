"""The conformance suite: what "the same" means for engines, for anyone who writes one.

An engine author supplies a `Harness` and one test function::

    @pytest.mark.parametrize("case", cases(MyHarness), ids=str)
    def test_the_engine_keeps_its_promise(case):
        case.keep()

Call `pytest.register_assert_rewrite("cicely.testing.conformance")` in the `conftest.py` beside it,
so that failed assertions show their values.
"""

from __future__ import annotations

from cicely.testing.conformance.harness import Capability, Harness
from cicely.testing.conformance.suite import Case, Promise, cases, promises

__all__ = ["Capability", "Case", "Harness", "Promise", "cases", "promises"]
