"""Where an app keeps its jobs when nobody says, and that nothing is touched before the first call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cicely import Cicely, ConfigError
from cicely.place import default_url


def test_making_an_app_opens_and_creates_nothing(tmp_path):
    (tmp_path / "evals.py").write_text(
        "from cicely import Cicely\n"
        "app = Cicely('evals')\n"
        "@app.task(queue='q')\n"
        "def f(): ...\n"
        "print(app.url, f.name)\n"
    )

    script = run(tmp_path / "evals.py")

    assert script == f"sqlite:///{tmp_path}/.cicely/evals.db evals.f"
    assert os.listdir(tmp_path) == ["evals.py"]


def test_a_module_run_as_a_script_in_a_package_keeps_its_importable_name(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jobs.py").write_text(
        "from cicely import Cicely\napp = Cicely('evals')\n@app.task\ndef f(): ...\nprint(f.name)\n"
    )

    assert run(package / "jobs.py") == "pkg.jobs.f"
    assert run("-m", "pkg.jobs", cwd=tmp_path) == "pkg.jobs.f"


def run(*words: object, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "CICELY_URL"}
    return subprocess.run(
        [sys.executable, "-B", *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


def test_the_environment_says_where_unless_the_app_does(monkeypatch):
    monkeypatch.setenv("CICELY_URL", "sqlite:////elsewhere/jobs.db")

    assert Cicely("evals").url == "sqlite:////elsewhere/jobs.db"
    assert Cicely("evals", "sqlite:////here.db").url == "sqlite:////here.db"


def test_durability_goes_with_the_url():
    assert Cicely("e", "sqlite:////a.db", durability="none").url == "sqlite:////a.db?durability=none"
    assert Cicely("e", "sqlite:////a.db?x=1", durability="none").url.endswith("?x=1&durability=none")
    with pytest.raises(ConfigError, match="durability='much': one of power, process, none"):
        Cicely("e", durability="much")


def test_an_installed_package_is_no_place_for_jobs(tmp_path):
    folder = tmp_path / "site-packages" / "pkg"
    folder.mkdir(parents=True)

    with pytest.raises(ConfigError, match=r"installed package .* set url="):
        default_url("evals", str(folder / "app.py"))


def test_a_zip_is_no_place_for_jobs(tmp_path):
    with pytest.raises(ConfigError, match=r"a zip\?\); set url="):
        default_url("evals", str(tmp_path / "app.zip" / "app.py"))


def test_a_folder_whose_name_no_url_can_hold_is_no_place_for_jobs(tmp_path):
    folder = os.fsdecode(bytes(tmp_path) + b"/d\xff")
    os.mkdir(folder)

    with pytest.raises(ConfigError, match=r"no UTF-8; set url="):
        default_url("evals", f"{folder}/app.py")


def test_a_url_that_is_no_text_is_refused():
    with pytest.raises(ConfigError, match="url=5: a text"):
        Cicely("evals", 5)


def test_a_folder_that_cannot_be_written_is_no_place_for_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(ConfigError, match=r"not writable; set url="):
        default_url("evals", str(tmp_path / "app.py"))


def test_without_a_file_the_current_folder_is_taken_and_said_once(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)

    urls = {default_url("at-a-prompt", None), default_url("at-a-prompt", None)}

    assert urls == {f"sqlite:///{tmp_path}/.cicely/at-a-prompt.db"}
    assert len(caplog.records) == 1
    assert "defined in no file" in caplog.text


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", ".hidden", "ä", 3])
def test_a_name_that_cannot_name_a_file_is_refused(name):
    with pytest.raises(ConfigError, match="because it names a file"):
        Cicely(name)


def test_importing_cicely_is_light():
    heavy = ["asyncio", "apsw", "psutil", "rich", "click", "fsspec", "numpy"]
    code = f"import sys, cicely; print([name for name in {heavy} if name in sys.modules])"

    assert run("-c", code) == "[]"
