"""How a command finds its engine: by URL, by the environment, by the only file of the folder."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from cicely import Cicely
from cicely.cli.main import cli
from cicely.cli.target import file_of


@pytest.fixture
def enqueued(tmp_path, monkeypatch):
    """Return a file with one job in it, and the job's id."""
    monkeypatch.delenv("CICELY_URL", raising=False)
    monkeypatch.delenv("CICELY_APP", raising=False)
    folder = tmp_path / ".cicely"
    folder.mkdir()
    app = Cicely("shop", f"sqlite:///{folder}/shop.db")

    @app.task(name="shop.pack")
    def pack(order): ...

    job = pack.delay(1)
    app.close()
    return folder / "shop.db", job.id


def listed(*arguments):
    result = CliRunner().invoke(cli, ["jobs", "--json", *arguments])
    assert result.exit_code == 0, result.stderr
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


def test_by_url(enqueued):
    file, job_id = enqueued

    assert listed("--url", f"sqlite:///{file}") == [job_id]


def test_by_the_environment(enqueued, monkeypatch):
    file, job_id = enqueued
    monkeypatch.setenv("CICELY_URL", f"sqlite:///{file}")

    assert listed() == [job_id]


def test_by_the_only_file_of_the_current_folder(enqueued, monkeypatch):
    file, job_id = enqueued
    monkeypatch.chdir(file.parent.parent)

    assert listed() == [job_id]


def test_an_unknown_scheme_is_one_line():
    result = CliRunner().invoke(cli, ["jobs", "--url", "gopher://x"])

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_corrupt_file_is_exit_code_3(tmp_path):
    file = tmp_path / "bad.db"
    file.write_bytes(b"this is no database " * 300)

    result = CliRunner().invoke(cli, ["jobs", "--url", f"sqlite:///{file}"])

    assert result.exit_code == 3
    assert result.stderr.startswith("Error: ")


def test_doctor_shows_the_file_and_its_log(enqueued):
    file, _ = enqueued

    result = CliRunner().invoke(cli, ["doctor", "--json", "--url", f"sqlite:///{file}"])

    facts = {fact["name"]: fact for fact in json.loads(result.stdout)["facts"]}
    assert facts["file"]["source"] == str(file)
    assert "write-ahead log" in facts
    assert "free space" in facts


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/a%20b.db", "/var/a b.db"),
        ("sqlite:////var/a.db?durability=none", "/var/a.db"),
        ("redis://host/0", None),
    ],
)
def test_the_file_of_a_url(url, path):
    found = file_of(url)

    assert (None if found is None else str(found)) == path
