"""What the zygote's tests fork: small entry functions, run by role."""

import os
import signal
import sys
import time

APP = "the app"


def returns(app, spec, fds, nursery):
    pass


def raises(app, spec, fds, nursery):
    raise RuntimeError("this entry fails")


def exits(app, spec, fds, nursery):
    os._exit(int(spec))


def tells(app, spec, fds, nursery):
    facts = [app, spec.decode(), nursery is not None, os.getsid(0) == os.getpid()]
    os.write(fds[0], repr(facts).encode())


def draws(app, spec, fds, nursery):
    import numpy as np

    os.write(fds[0], repr(np.random.random()).encode() + b"\n")


def waits(app, spec, fds, nursery):
    """Say one's pid, then stay."""
    _say_pid(fds)
    time.sleep(60)


def breeds(app, spec, fds, nursery):
    """Stay, with a child, a grandchild of another session, and an orphan of a third one."""
    if os.fork() == 0:
        _say_pid(fds)
        if os.fork() == 0:
            os.setsid()
            _say_pid(fds)
            if os.fork() == 0:
                if os.fork() == 0:
                    os.setsid()
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    _say_pid(fds)
                    time.sleep(60)
                os._exit(0)
        time.sleep(60)
    _say_pid(fds)
    if spec == b"exits":
        time.sleep(0.3)
        os._exit(0)
    time.sleep(60)


def explodes(app, spec, fds, nursery):
    """Fork from every process, as long as there are tokens in fds[1], which does not block."""
    while True:
        try:
            os.read(fds[1], 1)
        except BlockingIOError:
            time.sleep(60)
        if os.fork() == 0:
            _say_pid(fds)


def owns(app, spec, fds, nursery):
    """Fork an attempt of the role in spec; kill it if fds has a third; retell its events."""
    pid = nursery.fork(spec.decode(), fds=fds[:1])
    if len(fds) > 1:
        time.sleep(0.2)
        nursery.kill(pid)
    while True:
        for event in nursery.events():
            os.write(fds[-1], f"{event}\n".encode())
        time.sleep(0.005)


def owns_from_threads(app, spec, fds, nursery):
    """Fork attempts from four threads at once and say how many pids came back."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        pids = set(pool.map(lambda _: nursery.fork("returns"), range(40)))
    os.write(fds[0], f"{len(pids)}\n".encode())
    sys.exit(0)


def _say_pid(fds):
    os.write(fds[0], f"{os.getpid()}\n".encode())
