"""`ixt run --metrics-port`: on one machine Prometheus gets the series of a run that a cluster has."""

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from make import cli, loopback, runs
from make.cli import Desk
from make.exposed import Exposed, read
from make.holding import child
from make.processes import until
from make.zygote import Zygote

from ixt_operator.adapters.local.loop import Look
from ixt_operator.api.status import RunStatus
from ixt_operator.cli.scraped import scraped as served
from ixt_operator.planner.observed import Observed, ProcessPhase, ProcessState
from ixt_workloads.contract.metrics import (
    DOCUMENTS,
    LOSS,
    RUN_PHASE,
    RUN_PROGRESS,
    STEP_DONE,
    STEP_RATE,
    STEP_STATE,
)
from ixt_workloads.contract.results import Progress

TRAIN = "pretrain/train/plain-s0"


@pytest.fixture
def desk(tmp_path: Path, zygote: Zygote) -> Desk:
    return cli.desk(tmp_path, zygote, **cli.PLAIN)


@pytest.fixture
def own_part() -> Iterator[int]:
    with loopback.part() as part:
        yield part


def scraped(port: int, accept: str = "") -> Exposed:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return read(answer.read())


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_a_local_run_has_the_series_of_one_in_a_cluster(desk: Desk, own_part: int, accept: str) -> None:
    port = loopback.port(own_part)
    desk.tell({TRAIN: {"*": {"seconds": 600}}})
    with desk.started("--metrics-port", str(port)) as run:
        found = Exposed()

        def trains() -> bool:
            nonlocal found
            assert run.poll() is None, run.communicate()
            try:
                found = scraped(port, accept)
            except OSError:
                return False
            return LOSS.name in found

        until(trains)
    own = {"namespace": "local", "run": "test"}
    train = {**own, "stage": "pretrain", "step": "train/plain", "kind": "Train", "arm": "plain"}
    assert found.of(RUN_PHASE.name, **own) == {"Running": 1}
    assert found.of(STEP_STATE.name, **train) == {"Running": 1}
    assert found.of(STEP_DONE.name, **train).keys() == {"units"}
    assert 3 < found.of(LOSS.name, **train, seed="0")[""] <= 4
    assert 0 < found.of(RUN_PROGRESS.name, **own)[""] < 1


def test_a_process_that_once_does_not_answer_keeps_what_it_told(own_part: int) -> None:
    """And one that was killed; its speed does not stay."""
    port, counts = loopback.port(own_part), {DOCUMENTS.name: {"Ok": 7.0}}
    told = Progress(done=7, per_second=2.0, unit="documents", figures=counts)
    running = ProcessState(index=0, phase=ProcessPhase.RUNNING)
    with served(runs.run(), port) as show:
        for process, rate in (
            (running.model_copy(update={"progress": told}), [2.0]),
            (running, [2.0]),
            (running.model_copy(update={"phase": ProcessPhase.FAILED}), []),
        ):
            show(Look(RunStatus(), Observed(children={"annotate": child("annotate", [process], "Annotate")})))
            found = scraped(port)
            assert list(found.of(DOCUMENTS.name).values()) == [7]
            assert list(found.of(STEP_RATE.name).values()) == rate


def test_a_port_that_another_program_holds_is_named(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = desk.run("--metrics-port", str(port))
    assert done.code != 0
    assert done.err == f"port {port} of 127.0.0.1: Address already in use; choose another --metrics-port\n"
    assert not desk.storage.exists()
