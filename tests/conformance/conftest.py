"""Show the values of failed assertions of the suite, and end with its table."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("cicely.testing.conformance", "cicely.testing.machine")

from cicely.testing.conformance import Case  # noqa: E402  (after the rewrite was asked for)
from cicely.testing.conformance.table import Table  # noqa: E402

TABLE = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = Table()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    if isinstance(case, Case) and report.when == "call":
        item.config.stash[TABLE].record(case, kept=report.passed)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = list(config.stash[TABLE].lines())
    if lines:
        terminalreporter.section("promises kept, by engine")
        terminalreporter.write_line("\n".join(lines))
