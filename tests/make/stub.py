"""A double of every step, for tests of planner and adapters: `python -P tests/make/stub.py`.

It keeps the steps' contract (task, keys, artifacts, progress, results, exit codes) without reading data or
running an engine, and misbehaves on demand, which real steps do not. $IXT_STUB_SCRIPT names a JSON file,
{node: {attempt or "*": told}}, with any of these told:
    {"saves": true}                  save some work
    {"exit": code, "message": text}  fail
    {"signal": number}               get a signal
    {"die_at": number}               get SIGKILL before the n-th file is written, linked, made or removed
    {"wait_for": path}               go on once there is such a file
    {"hang": true}                   do nothing
    {"seconds": number}              work that long, with progress
As a judge (with a port `http`) it serves /health and nothing else, as soon as its script lets it.
"""

import hashlib
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NoReturn

from ixt_workloads import frame, listening, logs
from ixt_workloads.contract.configs import InventoryConfig, ReportConfig, TrainConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.metrics import LOSS
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.frame import Step
from ixt_workloads.listening import Server
from ixt_workloads.store import ArtifactWriter


def main() -> NoReturn:
    """Be a step."""
    frame.main(run)


def run(step: Step) -> Result:
    """Do what the step would do, with one small file for each index in place of its work."""
    step.reporter.update(1, 2, "parts", "half of it is done")
    _misbehave(step)
    if "IXT_PORT_HTTP" in os.environ:
        _serve()
    if isinstance(step.config, InventoryConfig):
        return _inventory(step, step.config)
    indexes = 1 if isinstance(step.config, TrainConfig) else step.task.indexes
    if step.index >= indexes:
        return Result(outcome=Outcome.SHARED, key=step.task.key)
    for role in step.task.inputs:
        artifact = step.input(role)
        for path in artifact.paths:
            artifact.file(path)
    writer = step.writer()
    if isinstance(step.config, ReportConfig):
        files = {
            "report.html": b"<p>a stub wrote it</p>", "report.md": b"**a stub wrote it**\n",
            "report.json": b'{"stages": []}',
        }  # fmt: skip
        for name, data in files.items():
            writer.add(name, data)
        writer.commit({}, list(files))
        return Result(outcome=Outcome.COMMITTED, key=step.task.key)
    content = {"preimage": step.task.preimage, "index": step.index}
    writer.add(f"part-{step.index}.json", json.dumps(content, sort_keys=True).encode())
    parts = [f"part-{index}.json" for index in range(indexes)]
    if not all(writer.has(part) for part in parts):
        return Result(outcome=Outcome.SHARED, key=step.task.key)
    writer.commit({}, parts)
    flops = {step.config.kind.lower(): 1000}
    return Result(outcome=Outcome.COMMITTED, key=step.task.key, message="a stub did it", flops=flops)


def _inventory(step: Step, config: InventoryConfig) -> Result:
    pins = {"datasets": _pin(*(dataset.uri for dataset in config.datasets))}
    if config.tasks:
        pins["tasks"] = _pin(*(task.uri for task in config.tasks))
    if config.judge:
        pins["judge"] = _pin(config.judge.source or config.judge.model or "")
    if config.model:
        pins["model"] = _pin(config.model.source or config.model.config or "")
        pins["tokenizer"] = _pin(config.model.source or config.model.tokenizer or "")

    def make(writer: ArtifactWriter) -> None:
        writer.add("part-0.json", json.dumps(pins, sort_keys=True).encode())
        writer.commit({}, ["part-0.json"])

    return step.pinned(pins, lambda _: None, make)


def _pin(*places: str) -> str:
    """Hash of the files at these places; of the name of a place that is no file of this machine."""
    files = [Path(place.removeprefix("file://")) for place in places]
    known = [file.read_bytes() if file.is_file() else str(file).encode() for file in files]
    digests = [hashlib.sha256(content).digest() for content in known]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _misbehave(step: Step) -> None:
    path = os.environ.get("IXT_STUB_SCRIPT")
    script: dict[str, Any] = json.loads(Path(path).read_text()) if path else {}
    by_attempt = script.get(step.task.node, {})
    told = by_attempt.get(str(step.task.attempt), by_attempt.get("*", {}))
    if told.get("saves"):
        _work(step, 0.1)
        step.reporter.saved()
    if "signal" in told:
        os.kill(os.getpid(), told["signal"])
    if "exit" in told:
        code = told["exit"]
        if code not in list(Exit):
            os._exit(code)
        raise StepError(Exit(code), told.get("message", "told to fail"), "take it out of the script")
    if "die_at" in told:
        _die_at(told["die_at"])
    _work(step, told.get("seconds", 0))
    while told.get("hang") or ("wait_for" in told and not Path(told["wait_for"]).exists()):
        time.sleep(0.02)


def _work(step: Step, seconds: float) -> None:
    started, parts = time.monotonic(), 1000
    while (done := time.monotonic() - started) < seconds:
        step.reporter.update(parts * done / seconds, parts, "parts")
        step.reporter.set(LOSS, 4 - done / seconds)
        if isinstance(step.config, TrainConfig):
            number = round(parts * done / seconds)
            logs.point(f"step {number}", {"step": number, "training/loss": 4 - done / seconds})
        time.sleep(0.02)


def _die_at(number: int) -> None:
    """Watch what this process does to files, and end it in the middle of that."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        changes = event in ("os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir")
        if changes or (event == "open" and arguments[2] & writing):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _serve() -> None:
    """Answer /health until told to stop, which raises KeyboardInterrupt."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    Server(listening.host(), int(os.environ["IXT_PORT_HTTP"]), Handler).serve_forever()


if __name__ == "__main__":
    main()
