"""Tells at the end of a run how long each suite took, so that the whole keeps to its budget."""

from collections import Counter
from collections.abc import Iterator

import pytest


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in _reports(terminalreporter):
        suite = _suite_of(report.nodeid)
        seconds[suite] += report.duration
        tests[suite] += report.when == "call"
    if not seconds:
        return
    terminalreporter.section("time by suite")
    for suite, spent_s in seconds.most_common():
        terminalreporter.write_line(f"{spent_s:8.1f} s  {tests[suite]:6} tests  {suite}")


def _reports(terminalreporter: pytest.TerminalReporter) -> Iterator[pytest.TestReport]:
    for reports in terminalreporter.stats.values():
        for report in reports:
            # Passed set-ups and tear-downs stand under "", and take their time as well.
            if isinstance(report, pytest.TestReport):
                yield report


def _suite_of(nodeid: str) -> str:
    """Return `tests/unit` of `tests/unit/test_x.py::test_y`."""
    return "/".join(nodeid.partition("::")[0].split("/")[:-1][:2]) or "elsewhere"
