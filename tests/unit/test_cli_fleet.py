"""What workers offer and accept, on the command line and in a fleet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cicely.cli.demand import flags, working
from cicely.cli.fleet import accepts_of, offers_of

FLEET = """
[workers.high]
queues = ["high"]
processes = 4

[workers.batch]
queues = "batch"
processes = "1:3"

[workers.gpu]
queues = "training"
resources = {gpu = "0,1", memory_gb = 64}
accept = ["model=opus"]

[workers.shared]
queues = {high = 3, batch = 1}
resource = "memory_gb=64"
accept = "model=opus"

[workers.whole]
app = "other:app"

[workers.typo]
proceses = 4

[workers.nested]
kind = "high"

[workers.limited]
limits = {"anthropic/opus" = 3}

[workers.counted]
resources = {gpu = 2}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "singular.toml").write_text("[worker.gpu]\n")


def given_by(*words: str, app: str = "evals:app") -> dict[str, Any]:
    seen: dict[str, Any] = {}

    @click.command()
    @working
    def command(**given: Any) -> None:
        seen.update(given)

    result = CliRunner().invoke(command, [app, *words] if app else words)
    if result.exit_code:
        raise AssertionError(result.output)
    return seen


def test_resources_are_amounts_units_or_units_that_hold_an_amount() -> None:
    assert offers_of(["memory_gb=64", "gpu=0,1", "vram_gb=0:80,1:40"]) == {
        "memory_gb": {"": 64.0},
        "gpu": {"0": 1.0, "1": 1.0},
        "vram_gb": {"0": 80.0, "1": 40.0},
    }
    assert offers_of(["gpu=1"]) == {"gpu": {"1": 1.0}}


@pytest.mark.parametrize(
    "written", ["gpu", "=4", "memory_gb=lots", "memory_gb=-1", "gpu=0,0", "gpu=-1", "vram_gb=0:x"]
)
def test_a_resource_that_makes_no_sense_is_refused(written: str) -> None:
    with pytest.raises(click.UsageError, match="--resource"):
        offers_of([written])


def test_values_of_one_tag_are_accepted_together() -> None:
    assert accepts_of(["model=opus,sonnet", "region=eu", "model=haiku"]) == {
        "model": ("opus", "sonnet", "haiku"),
        "region": ("eu",),
    }
    with pytest.raises(click.UsageError, match="as model=opus"):
        accepts_of(["model"])


def test_a_kind_gives_the_options_of_a_worker() -> None:
    high, batch, gpu = (given_by("--kind", kind) for kind in ("high", "batch", "gpu"))
    assert (high["queues"], high["processes"]) == ("high", (4, 4))
    assert (batch["queues"], batch["processes"]) == ("batch", (1, 3))
    assert offers_of(gpu["resource"]) == {"gpu": {"0": 1.0, "1": 1.0}, "memory_gb": {"": 64.0}}
    assert gpu["accept"] == ("model=opus",)


def test_what_may_be_repeated_needs_no_list_and_queues_may_have_weights() -> None:
    shared = given_by("--kind", "shared")

    assert shared["queues"] == "high=3,batch=1"
    assert (shared["resource"], shared["accept"]) == (("memory_gb=64",), ("model=opus",))


def test_a_kind_may_name_the_app() -> None:
    assert given_by("--kind", "whole", app="")["app"] == "other:app"


def test_what_is_written_beside_a_kind_wins() -> None:
    assert given_by("--kind", "high", "--processes", "7")["processes"] == (7, 7)


def test_a_kind_may_stand_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[workers.x]\nname = "from another"\n')
    assert given_by("--kind", "other.toml:x")["name"] == "from another"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("hihg", "did you mean high"),
        ("typo", "did you mean processes"),
        ("nested", "no option kind"),
        ("limited", r"no option limits: its own are max-jobs, .* app.limit\(...\)"),
        ("counted", 'name its units, as gpu = "0,1"'),
        ("missing.toml:x", "needs the fleet file"),
        ("zzz", "it has high, batch, "),
        ("singular.toml:gpu", r"it has \[worker\], and kinds are read from \[workers.KIND\]"),
    ],
)
def test_a_kind_that_is_not_there_is_named(kind: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        given_by("--kind", kind)


def test_the_options_of_a_worker_can_be_written_down_again() -> None:
    given = given_by("--processes", "2:8", "--resource", "gpu=0", "--accept", "model=opus")
    assert given_by(*flags(given)) == given
