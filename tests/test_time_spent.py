"""The line of `ixt status` and `kubectl ixt status` about a run's time."""

from ixt_operator.api.status import Cost, RunStatus
from ixt_operator.cli.view import time_spent
from ixt_workloads.contract.metrics import Spending


def test_hours_and_what_they_were_spent_on() -> None:
    cpu = {Spending.PREPARING: 900}
    gpu = {Spending.STARTING: 1800, Spending.TRAINING: 5400 * 100}
    told = RunStatus(cost=Cost(gpu_seconds=gpu, cpu_seconds=cpu), goodput_percent=99)
    assert [line.plain for line in time_spent(told)] == [
        "150 GPU-hours, 99 % productive: training 150, starting 0.5"
    ]
    told = RunStatus(cost=Cost(cpu_seconds=cpu), goodput_percent=100)
    assert [line.plain for line in time_spent(told)] == [
        "0.25 processor-hours, 100 % productive: preparing 0.25"
    ]
    assert time_spent(RunStatus()) == ()
