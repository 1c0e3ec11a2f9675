"""`cicely demo`: HumanEval's problems, solved and sabotaged, graded while a worker is killed."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from cicely.cli.exits import NOTHING
from cicely.cli.screen import Column, json_option, write_json, write_table
from cicely.cli.text import safe
from cicely.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cicely.cli.demonstration.crew import Stage
    from cicely.cli.demonstration.play import Audience
    from cicely.cli.demonstration.report import Report


@click.command()
@click.option(
    "--problems",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Problems in HumanEval's format, .jsonl or .jsonl.gz; otherwise HumanEval's own.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep the database, the ledger and the workers' logs in this new folder.",
)
@json_option
@click.pass_context
def demo(ctx: click.Context, *, problems: Path | None, keep: Path | None, as_json: bool) -> None:
    """Grade right, wrong, endless and greedy programs, and lose none of them.

    Each of HumanEval's 164 problems comes as its right solution, off by one, with an endless loop,
    and as a memory hog or with a call of os._exit: 656 programs, each in a process of its own with
    3 s and 256 MB, on two workers, of which one is killed half-way. It takes about 80 s.

    Exits with 0 if every right solution passed, nothing else did, and nothing was lost, overlapped
    or run again after its end; otherwise with 1 and the reason.
    """
    from cicely.cli.demonstration import problems as shipped
    from cicely.cli.demonstration.plan import candidates
    from cicely.cli.demonstration.play import play

    found = shipped.read(problems or shipped.humaneval())
    programs = candidates(found)
    with _stage(keep) as stage, _audience(as_json) as audience:
        audience.hear(_opening(len(found), len(programs)))
        report = play(programs, stage, audience)
        if report.faults and keep is None:
            keep = Path(shutil.copytree(stage.folder, tempfile.mkdtemp(), dirs_exist_ok=True))
    if as_json:
        write_json(_document(report))
    else:
        _write(report)
    if keep is not None:
        click.echo(f"the database, the ledger and the logs are in {safe(str(keep))}", err=True)
    ctx.exit(NOTHING if report.faults else 0)


@contextmanager
def _stage(keep: Path | None) -> Iterator[Stage]:
    from cicely.cli.demonstration.crew import Stage

    if keep is None:
        with tempfile.TemporaryDirectory(prefix="cicely-demo-", ignore_cleanup_errors=True) as folder:
            yield Stage(Path(folder))
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--keep {keep}: {error.strerror}") from error
    if any(keep.iterdir()):
        raise ConfigError(f"--keep {keep}: the folder is not empty; name a new one")
    yield Stage(keep.resolve())


def _audience(as_json: bool) -> AbstractContextManager[Audience]:  # noqa: FBT001  (chooses who looks)
    from cicely.cli.demonstration.audience import InALog, Nobody, at_the_terminal

    if as_json:
        return nullcontext(Nobody())
    return at_the_terminal() if sys.stdout.isatty() else nullcontext(InALog())


def _opening(problems: int, programs: int) -> str:
    from cicely.cli.demonstration.app import MEMORY, TIMEOUT_S
    from cicely.cli.demonstration.play import SLOTS, WORKERS

    return (
        f"{problems} problems, {programs} programs: at most {TIMEOUT_S} s and {MEMORY} each, "
        f"{SLOTS} at a time on {WORKERS} workers"
    )


def _write(report: Report) -> None:
    from cicely.cli.demonstration.variants import Variant

    used = [variant for variant in Variant if any(variant in row for row in report.outcomes.values())]
    columns = [Column("OUTCOME"), *(Column(variant.upper(), right=True) for variant in used)]
    rows = [
        [outcome, *(str(row.get(variant) or "") for variant in used)]
        for outcome, row in report.outcomes.items()
    ]
    click.echo()
    write_table(columns, rows)
    judgement = report.judgement
    click.echo(
        f"\n{report.jobs} jobs took {report.attempts} attempts in {report.wall_s:.0f} s; "
        f"{report.re_runs_after_kill} of them because a worker was killed\n"
        f"right solutions passed {report.right_passed}/{report.right} · lost {judgement.lost} · "
        f"overlapped {judgement.overlapped} · "
        f"run again after an accepted end {judgement.run_again_after_accepted_end}"
    )
    for fault in report.faults:
        click.echo(f"not as it should be: {safe(fault)}", err=True)


def _document(report: Report) -> dict[str, object]:
    document: dict[str, object] = msgspec.to_builtins(report)
    return document | {"ok": not report.faults}
