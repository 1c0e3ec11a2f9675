"""The command line as a whole: help, typing errors, errors of ours, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cicely.cli.exits import NOTHING, OUT_OF_REACH, USAGE, code_of
from cicely.cli.main import cli
from cicely.errors import EngineUnavailable, JobFailed, JobNotFound, UnknownQueue


def test_help_lists_every_command():
    result = CliRunner().invoke(cli, ["--help"])

    assert result.exit_code == 0
    for name in ("worker", "dev", "jobs", "job", "queues", "workers", "cancel", "revive", "discard"):
        assert f"\n  {name} " in result.output


@pytest.mark.parametrize("name", cli.list_commands(None))
def test_every_command_explains_itself_and_speaks_json(name):
    result = CliRunner().invoke(cli, [name, "--help"])

    assert result.exit_code == 0
    assert "--json" in result.output


def test_help_loads_neither_rich_nor_an_engine():
    code = (
        "import sys; from click.testing import CliRunner; from cicely.cli.main import cli; "
        "CliRunner().invoke(cli, ['--help']); "
        "print([name for name in ('rich', 'apsw', 'psutil', 'asyncio') if name in sys.modules])"
    )

    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert said.stdout.strip() == "[]"


def test_a_misspelt_command_is_told_the_nearest():
    result = CliRunner().invoke(cli, ["wroker"])

    assert result.exit_code == USAGE
    assert "Did you mean worker?" in result.stderr


@pytest.mark.parametrize("words", [["job", "\udcff"], ["jobs", "--tag", "\udcff"], ["worker", "\udcff"]])
def test_a_word_that_is_no_text_is_refused(words):
    result = CliRunner().invoke(cli, words)

    assert result.exit_code == USAGE
    assert r"\udcff is no text in UTF-8." in result.stderr


def test_a_misspelt_option_is_told_the_nearest():
    result = CliRunner().invoke(cli, ["jobs", "--jso"])

    assert result.exit_code == USAGE
    assert "--json" in result.stderr


def test_without_an_engine_the_error_names_the_ways_to_name_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(cli, ["jobs"])

    assert result.exit_code == USAGE
    assert result.stdout == ""
    assert "--app module:app (or CICELY_APP) or --url (or CICELY_URL)" in result.stderr


def test_an_app_that_cannot_be_imported_shows_the_users_part_of_the_traceback(tmp_path, monkeypatch):
    Path(tmp_path, "broken_shop.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(cli, ["jobs", "--app", "broken_shop:app"])

    assert result.exit_code == NOTHING
    assert "return 1 / 0" in result.stderr
    assert "preload.py" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last == "Error: cannot import broken_shop:app: ZeroDivisionError: division by zero"


def test_a_mistake_that_we_tell_of_shows_the_users_line_and_none_of_ours(tmp_path, monkeypatch):
    written = "from cicely import Cicely\napp = Cicely('s', url='memory://')\napp.limit('k', concurrency=0)\n"
    Path(tmp_path, "limitless_shop.py").write_text(written)
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(cli, ["jobs", "--app", "limitless_shop:app"])

    assert result.exit_code == NOTHING
    assert "app.limit('k', concurrency=0)" in result.stderr
    assert "flow_control.py" not in result.stderr


def test_a_missing_file_is_not_created_by_looking_at_it(tmp_path):
    result = CliRunner().invoke(cli, ["jobs", "--url", f"sqlite:///{tmp_path}/typo.db"])

    assert result.exit_code == USAGE
    assert "there is no file" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_several_files_in_the_folder_are_named(tmp_path, monkeypatch):
    (tmp_path / ".cicely").mkdir()
    (tmp_path / ".cicely" / "a.db").touch()
    (tmp_path / ".cicely" / "b.db").touch()
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(cli, ["queues"])

    assert result.exit_code == USAGE
    assert "a.db, b.db" in result.stderr


def test_exit_codes_tell_whose_move_is_next():
    assert code_of(UnknownQueue("")) == USAGE
    assert code_of(EngineUnavailable("")) == OUT_OF_REACH
    assert code_of(JobNotFound("")) == NOTHING
    assert code_of(JobFailed("id")) == NOTHING
