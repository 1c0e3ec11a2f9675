"""What jobs of every system write down, and the plots that are drawn of it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from benchmarks.compare.plots import Bar, Curve, bars, curves
from benchmarks.page import write_between
from benchmarks.peers import ledger
from benchmarks.peers.embedding import DIMENSIONS, DOCUMENTS, embed_documents


def test_marks_and_entries_are_counted_and_only_entries_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    monkeypatch.setenv(ledger.FILE_VARIABLE, str(path))
    entry = ledger.Entry(7, 42, 1.5, 2.5)

    ledger.mark()
    ledger.write(entry)

    assert ledger.count(path) == 2
    assert ledger.entries(path) == [entry]


def test_half_a_record_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(bytes(ledger.RECORD_BYTES + 5))

    assert ledger.count(path) == 1
    assert ledger.entries(path) == [ledger.Entry(0, 0, 0.0, 0.0)]


def test_documents_become_unit_vectors_and_the_same_ones_again() -> None:
    vectors = embed_documents(1)

    assert len(vectors) == DOCUMENTS
    assert {len(vector) for vector in vectors} == {DIMENSIONS}
    assert sum(value * value for value in vectors[0]) == pytest.approx(1.0)
    assert embed_documents(1) == vectors


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    drawn = bars("Drain", "jobs/s", [Bar("a & b", 100, 90, 200), Bar("cicely", 50, 50, 50, is_ours=True)])

    rectangles = ElementTree.fromstring(drawn).findall("{http://www.w3.org/2000/svg}rect")
    first, second = (float(rectangle.attrib["width"]) for rectangle in rectangles)
    assert first == pytest.approx(2 * second)


def test_curves_of_one_point_and_of_nothing_but_zeroes_are_drawn() -> None:
    for points in (((10.0, 3.0),), ((1.0, 0.0), (1_000.0, 0.0))):
        ElementTree.fromstring(curves("Cost", "backlog", "µs", [Curve("claim", points)]))


def test_a_page_keeps_its_words_around_what_a_script_writes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Before.\n<!-- results: written by a script -->\nold\n<!-- end of the results -->\nAfter.\n"
    )

    write_between(page, "new")

    assert "old" not in page.read_text()
    assert page.read_text().startswith("Before.")
    assert page.read_text().endswith("After.\n")
    with pytest.raises(ValueError, match="has no line"):
        write_between(page, "new", mark="comparison")
