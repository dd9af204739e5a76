"""Auto is what a pod has of GPUs."""

import pytest
import torch

from ixt_workloads.gpus import counted


@pytest.mark.parametrize(("there", "found"), [(0, 1), (1, 1), (8, 8)])
def test_auto_is_all_gpus_and_at_least_one(monkeypatch: pytest.MonkeyPatch, there: int, found: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    assert counted("Auto") == found
    assert counted(4) == 4
