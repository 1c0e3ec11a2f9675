"""Writes results between the marks of a page, and leaves the prose around them as it is."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Report, as_page

BEGIN = "<!-- results: written by a script -->"
END = "<!-- end of the results -->"


def write_page(path: Path, report: Report) -> None:
    """Put the table and its circumstances on the page."""
    circumstances = "\n".join(f"- {line}" for line in report.machine.lines())
    repeats = max((len(row.values) for table in report.tables for row in table.rows), default=0)
    write_between(path, f"{circumstances}\n- medians of {repeats}\n\n{as_page(report)}")


def write_between(path: Path, text: str) -> None:
    """Replace what stands between the two marks of a page."""
    page = path.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
