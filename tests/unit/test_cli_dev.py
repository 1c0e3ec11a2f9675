"""`cicely dev`: a change restarts the worker, and a worker that ends waits for the next change."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from cicely.cli.reload import Front, Reload
from cicely.cli.sources import Sources

# Stands for a worker: says that it is up, tells its engine, ends at the first SIGTERM.
_WORKER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
os.write(int(sys.argv[-1]), b"memory://told"); os.close(int(sys.argv[-1]))
print("up", flush=True)
time.sleep(20)
"""


class Notes(Front):
    """Keeps what is said; `on_line` is called with each line."""

    worker_output = -1  # subprocess.PIPE

    def __init__(self, on_line):
        self.lines = []
        self.urls = []
        self._on_line = on_line

    def say(self, line):
        self.hear(line)

    def hear(self, line):
        self.lines.append(line)
        self._on_line(self.lines)

    def connect(self, url):
        self.urls.append(url)


@pytest.fixture
def handlers():
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_a_changed_added_or_removed_file_is_noticed(tmp_path):
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("1")
    sources = Sources(tmp_path)

    (tmp_path / "a.py").write_text("12")
    (tmp_path / "b.py").unlink()
    (tmp_path / "c.py").touch()

    assert sources.changed() == ["a.py", "b.py", "c.py"]
    assert sources.changed() == []


def test_what_is_no_code_of_the_app_is_not_watched(tmp_path):
    for folder in (".hidden", "venv", "__pycache__"):
        (tmp_path / folder).mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    sources = Sources(tmp_path)

    for folder in (".hidden", "venv", "__pycache__"):
        (tmp_path / folder / "x.py").touch()
    (tmp_path / "notes.txt").touch()

    assert sources.changed() == []


@pytest.mark.timeout(20)
def test_a_change_restarts_the_worker_and_ctrl_c_ends_both(tmp_path, handlers):
    file = Path(tmp_path, "app.py")
    file.write_text("1")

    def on_line(lines):
        if lines == ["up"]:
            file.write_text("12")
        if lines.count("up") == 2:
            interrupt()

    front = Notes(on_line)
    code = Reload([sys.executable, "-c", _WORKER], Sources(tmp_path), front=front).run()

    assert code == 0
    assert front.lines == ["up", "app.py changed: restarting", "up"]
    assert front.urls[0] == "memory://told"


@pytest.mark.timeout(20)
def test_a_worker_that_ends_by_itself_is_not_started_before_a_change(tmp_path, handlers):
    front = Notes(lambda lines: None)
    reload = Reload([sys.executable, "-c", "raise SystemExit(2)"], Sources(tmp_path), front=front)
    threading.Timer(1.5, interrupt).start()
    began = time.monotonic()

    reload.run()

    assert time.monotonic() - began < 10
    assert front.lines == ["the worker ended with exit code 2; it starts again when a file changes"]
