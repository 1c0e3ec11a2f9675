"""From a URL to an engine."""

import os
import subprocess
import sys

import pytest

from cicely.engines.connect import connect, redacted
from cicely.engines.memory import MemoryEngine
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.errors import ConfigError


def test_three_slashes_name_a_file_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert connect("sqlite:///jobs.db").facts().address == str(tmp_path / "jobs.db")


def test_four_slashes_name_an_absolute_path(tmp_path):
    assert connect(f"sqlite:///{tmp_path}/jobs.db").facts().address == str(tmp_path / "jobs.db")


def test_what_is_quoted_in_a_path_is_unquoted(tmp_path):
    engine = connect(f"sqlite:///{tmp_path}/my%20jobs%3F.db")

    assert engine.facts().address == str(tmp_path / "my jobs?.db")


def test_connecting_opens_nothing(tmp_path):
    connect(f"sqlite:///{tmp_path}/jobs.db")

    assert os.listdir(tmp_path) == []


def test_options_follow_the_question_mark(tmp_path):
    engine = connect(f"sqlite:///{tmp_path}/jobs.db?durability=process&busy_timeout=0.5")

    assert isinstance(engine, SqliteEngine)
    assert engine.facts().durability.startswith("process")


def test_the_memory_engine_is_named_by_its_scheme_alone():
    assert isinstance(connect("memory://"), MemoryEngine)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("mysql://localhost/x", "it begins with sqlite:///, postgresql://, redis:// or memory://"),
        ("jobs.db", "it begins with sqlite:///, postgresql://, redis:// or memory://"),
        ("sqlite:jobs.db", "it begins with sqlite:///, postgresql://, redis:// or memory://"),
        ("sqlite://jobs.db", "write sqlite:///jobs.db for a file"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "write memory://"),
        ("memory:///x", "takes neither a place nor options"),
        ("sqlite:///x.db?sync=off", "unknown option 'sync'; sqlite takes durability, busy_timeout"),
        ("sqlite:///x.db?durability=maybe", "choose one of power, process, none"),
        ("sqlite:///x.db?busy_timeout=soon", "not a number of seconds above 0"),
        ("sqlite:///x.db?busy_timeout=-1", "not a number of seconds above 0"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_with_a_remedy(url, remedy):
    with pytest.raises(ConfigError, match=remedy.replace("?", r"\?")):
        connect(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///jobs.db", "sqlite:///jobs.db"),
        ("redis://me:secret@host:6379/0?x=1", "redis://me:***@host:6379/0?x=1"),
        ("redis://:secret@host", "redis://:***@host"),
        ("postgres://me@host/db", "postgres://me@host/db"),
        ("postgres://me:a@b:c@host/db", "postgres://me:***@host/db"),
    ],
)
def test_a_password_is_not_shown(url, shown):
    assert redacted(url) == shown


def test_an_error_shows_no_password():
    with pytest.raises(ConfigError) as caught:
        connect("mysql://me:secret@host/db")

    assert "secret" not in str(caught.value)


def test_no_driver_is_loaded_before_a_url_asks_for_it():
    code = "import sys, cicely.engines.connect; sys.exit('apsw' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
