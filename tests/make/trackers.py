"""Trainings as trackers know them, what trackers have of them, and servers that misbehave."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ixt_workloads.store import open_store
from ixt_workloads.trackers.points import Point, Tracked

PATIENCE_SECONDS = 120


def training(folder: Path, **fields: Any) -> Tracked:
    """A training of a run whose storage is a folder."""
    values = {
        "id": "0123456789abcdef",
        "run": "test",
        "stage": "pretrain",
        "lane": "conditioned-s0",
        "config": {"train.optimizer.learningRate": "3e-4", "seed": 0},
        "lineage": {"train": "key-1", "pin/judge": "judge-1"},
        "trains": True,
        "store": open_store(f"file://{folder}"),
    }
    return Tracked(**{**values, **fields})


def point(step: int, **figures: float) -> Point:
    """A point with a loss."""
    return Point(
        step,
        step * 100,
        time.time(),
        {"training/loss": 10.0 / step, "training/tokens": step * 100, **figures},
    )


def events(folder: Path) -> Any:
    """What TensorBoard's own reader finds in a training's folder."""
    from tensorboard.backend.event_processing.event_accumulator import (
        STORE_EVERYTHING_SIZE_GUIDANCE,
        EventAccumulator,
    )

    found = EventAccumulator(str(folder), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE)
    found.Reload()
    return found


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Step and value of each point of a curve."""
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


BLOCK, HEADER, FULL, FIRST, LAST = 2**15, 7, 1, 2, 4


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format, with a header before the first block's records."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = file.read_bytes(), HEADER, b""
    assert content[:4] == b":W&B"
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + HEADER])
        part = content[place + HEADER : place + HEADER + size]
        if len(part) < size:
            return  # It is being written.
        parts = part if kind in (FULL, FIRST) else parts + part
        place += HEADER + size
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real MLflow server; tells its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    database = f"sqlite:///{folder / 'mlflow.db'}"
    env = {
        **os.environ,
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # What `mlflow server` starts once it has imported everything itself.
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "mlflow.server.fastapi_app:app"]
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
    try:
        address = f"http://127.0.0.1:{port}"
        # Its first answer takes long: it makes the database.
        experiment = f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0"
        until(lambda: server.poll() is not None or _answers(experiment))
        assert server.poll() is None, (folder / "mlflow.log").read_text()
        yield address
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE_SECONDS):
        return True
    return False


def until(holds: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def bad_server(answers: Sequence[bytes] = ()) -> Iterator[str]:
    """A server that says these words to everybody, one a second, and then nothing. Tells its address."""
    ended = threading.Event()
    held = []

    def talk(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(65_536)
            for word in answers:
                connection.sendall(word)
                if ended.wait(1):
                    return

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while not ended.is_set():
                connection, _ = listening.accept()
                held.append(connection)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()


@contextmanager
def refusing() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

BAD: Mapping[str, Callable[[], Any]] = {
    "silent": bad_server,
    "refused": refusing,
    "broken": lambda: bad_server([BROKEN]),
    "slow": lambda: bad_server(
        [bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
    ),
}
"""Servers that a step must not wait for."""
