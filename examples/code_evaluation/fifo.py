"""What the service had before: a queue of asyncio's in one process, as it is written in an afternoon.

`python -m examples.code_evaluation.fifo --port 8100`. It has the weaknesses that such queues have. What it
accepted is in memory, so a restart loses it. Whoever came first goes first, also before what is urgent. An
attempt that fails is not repeated. Nothing is bounded, nothing can be cancelled, and nobody can look.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Any

import msgspec

from examples.code_evaluation import verdicts
from examples.code_evaluation.sandbox import Program, Sandbox

WORKERS = 4


class Fifo:
    """The queue: ids that wait, and all that is known of every id."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self._waiting: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()
        self._sandbox = Sandbox()

    def submit(self, job_id: str, payload: dict[str, str]) -> None:
        """Accept a job; one that is known is not run again."""
        if job_id not in self.jobs:
            self.jobs[job_id] = {"state": "live"}
            self._waiting.put_nowait((job_id, payload))

    async def work(self) -> None:
        """Run one job after the other, for ever."""
        while True:
            job_id, payload = await self._waiting.get()
            program = Program(
                payload["language"],
                payload["code"],
                timeout_s=verdicts.TIMEOUT_S,
                memory_bytes=verdicts.MEMORY_BYTES,
            )
            try:
                ran = await asyncio.to_thread(self._sandbox.run, program)
            except OSError as error:
                self.jobs[job_id] = {"state": "failed", "error": str(error)}
                continue
            passed = ran.ended == "finished" and ran.exit_code == 0
            self.jobs[job_id] = msgspec.structs.asdict(ran) | {"state": "succeeded", "passed": passed}


async def answer(fifo: Fifo, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """Return the status and the answer to a request."""
    match method, path.strip("/").split("/"):
        case "POST", ["jobs", job_id]:
            fifo.submit(job_id, json.loads(body))
            return 202, {}
        case "GET", ["jobs", job_id] if job_id in fifo.jobs:
            return 200, fifo.jobs[job_id]
        case "GET", ["health"]:
            return 200, {"jobs": len(fifo.jobs)}
        case _:
            return 404, {}


async def serve(port: int) -> None:
    """Answer HTTP until SIGTERM."""
    fifo = Fifo()
    workers = [asyncio.create_task(fifo.work()) for _ in range(WORKERS)]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split()
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                status, said = await answer(fifo, method, path, await reader.readexactly(length))
                data = json.dumps(said).encode()
                writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # the caller is gone, or speaks no HTTP
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()
    for worker in workers:
        worker.cancel()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.code_evaluation.fifo", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
