"""The page of growing costs, and how a profile's samples become a table."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from benchmarks.machine import Machine
from benchmarks.profile import Sample, divided
from benchmarks.scaling.growth import AtBacklog, AtWorkers, Exchange
from benchmarks.scaling.pages import Growth, Scaling, as_markdown, write_scaling

MACHINE = Machine("cpu", 2, 8.0, "6", "3.11", {}, "ext4", 200.0, 0.5)


def exchange(*, batch: float = 100.0, per_s: float = 30_000.0) -> Exchange:
    return Exchange(per_s=per_s, batch=batch, exchange_us=2_000.0, engine_us=15.0, children_us=20.0)


def growth(engine: str = "sqlite") -> Growth:
    return Growth(
        engine=engine,
        about=f"{engine} 1.0",
        backlogs=tuple(
            AtBacklog(backlog=backlog, single_us=250.0, bulk_us=12.0, run=exchange())
            for backlog in (1_000, 1_000_000)
        ),
        workers=tuple(AtWorkers(processes=count, run=exchange()) for count in (1, 2, 32)),
        burning=exchange(batch=10.0),
        sync_us=200.0,
    )


def test_a_row_says_what_a_job_cost_beside_its_backlog() -> None:
    page = as_markdown(Scaling(MACHINE, (0.1, 0.2), (growth(),)))

    assert "| 1,000,000 | 250 | 12.0 | 20.0 | 100 | 15.0 | 30,000 |" in page
    assert "| 32 | 30,000 | 2,000 | 100 | 15.0 | 20.0 |" in page


def test_only_a_file_waits_for_the_disk_of_its_worker() -> None:
    assert growth("sqlite").costs.call_us == pytest.approx(growth("redis").costs.call_us + 200.0)
    assert growth("sqlite").costs.way_us == 0.0


def test_the_page_gets_its_tables_and_their_plots(tmp_path: Path) -> None:
    page = tmp_path / "scaling.md"
    page.write_text("# Words\n<!-- results: written by a script -->\n<!-- end of the results -->\n")

    write_scaling(page, Scaling(MACHINE, (0.1, 0.2), (growth("redis"), growth("postgres"))))

    drawings = sorted((tmp_path / "scaling").iterdir())
    assert all(f"scaling/{drawing.name}" in page.read_text() for drawing in drawings)
    assert len(drawings) == 4
    for drawing in drawings:
        ElementTree.fromstring(drawing.read_text())


def test_a_profile_divides_the_time_by_the_share_of_the_samples() -> None:
    stages = {"settle": "settle", "Clerk._serve": "its own steps"}
    samples = [
        Sample(1, "clerk", ("Clerk._serve\tclerk.py", "settle\tsettling.py", "execute\tcursor.py"), 3),
        Sample(1, "clerk", ("Clerk._serve\tclerk.py",), 1),
    ]

    table = divided("A clerk", 40.0, samples, stages)

    assert table.parts == (("settle", 30.0), ("its own steps", 10.0))
    assert table.total_us == pytest.approx(40.0)
