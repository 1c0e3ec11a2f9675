"""`cicely worker`: how its command line is read, and which queues it will serve."""

from __future__ import annotations

import os
import subprocess
import sys

import apsw
import click
import pytest
from click.testing import CliRunner

from cicely import Cicely
from cicely.cli.demand import flags, groups_of
from cicely.cli.main import cli
from cicely.cli.whereabouts import whereabouts
from cicely.engines.contract import Facts
from cicely.errors import ConfigError, UnknownQueue
from cicely.worker.hello import first_lines
from cicely.worker.options import WorkerOptions
from cicely.worker.preload import CannotImport, load, manifest_of
from cicely.worker.queues import groups_to_serve, tags_to_accept


def test_queues_without_weights_are_served_strictly_as_written():
    assert groups_of("high, evaluation") == ((("high", 1.0),), (("evaluation", 1.0),))


def test_queues_with_weights_take_turns():
    assert groups_of("high=3,batch=1") == ((("high", 3.0), ("batch", 1.0)),)


@pytest.mark.parametrize("written", ["a=1,b", "a,,b", "a,a", "a=zero", "a=0", "a=-1", "a=nan", "=2"])
def test_a_list_of_queues_that_makes_no_sense_is_refused(written):
    with pytest.raises(click.UsageError):
        groups_of(written)


def test_without_a_list_all_declared_queues_are_served_equal_priorities_in_turn():
    assert groups_to_serve((), [["high"], ["a", "b"]]) == ((("high", 1.0),), (("a", 1.0), ("b", 1.0)))


def test_a_queue_that_nothing_declares_is_refused_with_the_nearest():
    with pytest.raises(UnknownQueue, match="did you mean evaluation"):
        groups_to_serve(groups_of("evalution"), [["default", "evaluation"]])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--lease", "soon"], "write seconds, or"),
        (["--lease", "100ms"], "at least 1s"),
        (["--max-rss", "much"], "512M"),
        (["--processes", "0"], "--processes"),
        (["--processes", "8:2"], "--processes"),
        (["--processes", "2:"], "--processes"),
        (["-Q", "a=1,b"], "mixes order and weights"),
    ],
)
def test_an_option_out_of_range_is_refused_before_anything_starts(arguments, sentence):
    result = CliRunner().invoke(cli, ["worker", "nowhere:app", *arguments])

    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path, monkeypatch):
    folder = os.fsdecode(bytes(tmp_path) + b"/d\xff")
    os.mkdir(folder)
    monkeypatch.chdir(folder)

    with pytest.raises(ConfigError, match="no UTF-8: rename it"):
        whereabouts("evals:app")


def test_a_missing_app_file_is_one_line(tmp_path):
    result = CliRunner().invoke(cli, ["worker", f"{tmp_path}/none.py"])

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: there is no file")


def test_an_app_in_a_file_is_imported_as_producers_import_it(tmp_path):
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").touch()

    found = whereabouts(f"{package}/tasks.py:app")

    assert found.target == "shop.tasks:app"
    assert found.python_path[0] == str(tmp_path)
    assert found.folder == package


def test_a_module_is_looked_for_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "orders.py").touch()
    monkeypatch.chdir(tmp_path)

    found = whereabouts("orders")

    assert found.target == "orders"
    assert found.python_path == (str(tmp_path),)
    assert found.folder == tmp_path


@pytest.mark.parametrize("written", ["", ":app"])
def test_no_app_at_all_is_refused(written):
    with pytest.raises(ConfigError):
        whereabouts(written)


def test_the_only_app_of_a_module_is_found(tmp_path, monkeypatch):
    (tmp_path / "one_app.py").write_text("from cicely import Cicely\nshop = Cicely('shop')\nsame = shop\n")
    (tmp_path / "two_apps.py").write_text("from cicely import Cicely\na = Cicely('a')\nb = Cicely('b')\n")
    (tmp_path / "no_app.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    assert load("one_app").name == "shop"
    with pytest.raises(CannotImport, match="two_apps:a or two_apps:b"):
        load("two_apps")
    with pytest.raises(CannotImport, match="holds no app"):
        load("no_app")


def test_what_an_app_cannot_offer_is_said_without_our_traceback():
    app = Cicely("shop", url="memory://")
    app.lane("unheard-of", "premium", weight=2)

    with pytest.raises(CannotImport, match="no queue is called unheard-of") as caught:
        manifest_of(app)
    assert caught.value.traceback == ""


def test_dev_passes_a_workers_options_on():
    given = {
        "url": "",
        "queues": "a,b",
        "processes": (2, 8),
        "threads": 1,
        "coroutines": 100,
        "max_jobs": 0,
        "max_rss": None,
        "lease": 1.5,
        "grace": 8.0,
        "resource": ("gpu=0,1",),
        "accept": ("model=opus",),
        "name": "",
    }

    assert flags(given) == [
        "--queues=a,b",
        "--processes=2:8",
        "--threads=1",
        "--coroutines=100",
        "--max-jobs=0",
        "--lease=1.5",
        "--grace=8.0",
        "--resource=gpu=0,1",
        "--accept=model=opus",
    ]


_APP = """
from cicely import Cicely
app = Cicely("mill")

@app.task(queue="flour")
def grind(grain):
    return grain * 2
"""


def cicely(*arguments, folder):
    command = [sys.executable, "-P", "-m", "cicely", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_worker_says_where_it_works_and_ends_well_when_told(tmp_path):
    (tmp_path / "mill.py").write_text(_APP)
    worker = cicely("worker", "mill", "-Q", "flour", "--processes", "1", "--grace", "1s", folder=tmp_path)

    try:
        first = [worker.stdout.readline() for _ in range(3)]
        worker.terminate()
        code = worker.wait(15)
    finally:
        worker.kill()
        worker.communicate()

    assert f"sqlite {apsw.sqlite_lib_version()} at {tmp_path}/.cicely/mill.db" in first[0]
    assert first[1].startswith("durability: power")
    assert "1 processes" in first[2]
    assert "queues flour" in first[2]
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mill:app", "-Q", "flower"], "did you mean flour?"),
        (["mill:ap"], "module 'mill' has no 'ap'"),
        (["mil"], "there is no module 'mil'"),
    ],
)
def test_a_worker_that_cannot_start_says_so_in_one_line(tmp_path, arguments, sentence):
    (tmp_path / "mill.py").write_text(_APP)
    worker = cicely("worker", *arguments, folder=tmp_path)

    _, stderr = worker.communicate(timeout=15)

    assert worker.returncode == 2
    assert stderr.startswith("Error: ")
    assert sentence in stderr
    assert len(stderr.splitlines()) == 1


def test_a_tag_that_the_app_chooses_no_workers_by_is_refused():
    assert tags_to_accept({"model": ("opus",)}, ["model"]) == {"model": ("opus",)}
    assert tags_to_accept({"model": ("opus",)}, None) == {"model": ("opus",)}
    with pytest.raises(ConfigError, match=r"--accept modle=\.\.\.: .* jobs are chosen by model"):
        tags_to_accept({"modle": ("opus",)}, ["model"])
    with pytest.raises(ConfigError, match="none is declared"):
        tags_to_accept({"model": ("opus",)}, [])


def test_the_first_lines_say_what_a_worker_offers_and_accepts():
    options = WorkerOptions(
        target="evals:app",
        processes=1,
        most_processes=4,
        offers={"memory_gb": {"": 64.0}, "gpu": {"0": 1.0, "1": 1.0}, "vram": {"0": 80.0}},
        accepts={"model": ("opus", "haiku")},
    )

    lines = first_lines(
        Facts("memory", "here", "1", "none"),
        options,
        name="box",
        groups=((("default", 1.0),),),
        memory_limits="sampled",
        threads_of_app=(),
    )

    assert any(line.startswith("worker box: 1 to 4 processes of") for line in lines)
    assert "offers gpu: units 0, 1; memory_gb 64; vram: unit 0 of 80" in lines
    assert "accepts model=opus, model=haiku, and jobs without such a tag" in lines
