"""Writes results between the marks of a page, and leaves the prose around them as it is."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Report, as_page

RESULTS = "results"


def write_page(path: Path, report: Report) -> None:
    """Put the table and its circumstances on the page."""
    circumstances = "\n".join(f"- {line}" for line in report.machine.lines())
    repeats = max((len(row.values) for table in report.tables for row in table.rows), default=0)
    write_between(path, f"{circumstances}\n- medians of {repeats}\n\n{as_page(report)}")


def write_between(path: Path, text: str, *, mark: str = RESULTS) -> None:
    """Replace what stands between the two marks of a page; `ValueError` if it has none."""
    begin, end = f"<!-- {mark}: written by a script -->", f"<!-- end of the {mark} -->"
    page = path.read_text()
    if begin not in page or end not in page:
        raise ValueError(
            f"{path} has no line {begin!r} with {end!r} below it: add them where the text belongs"
        )
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
