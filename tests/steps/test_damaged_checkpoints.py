"""A training resumes from the newest checkpoint that is whole, and says which newer ones are not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from make.training import artifact, train_here, train_task

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Checkpoint
from ixt_workloads.progress import Reporter

pytestmark = pytest.mark.engine

SELDOM = Checkpoint(interval_seconds=3600)


class Heard(Reporter):
    """Keeps all messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def update(self, done: float, total: float | None, unit: str, message: str = "") -> None:
        self.messages.append(message)
        super().update(done, total, unit, message)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was stopped twice: checkpoints after steps 3 and 7."""
    folder = tmp_path_factory.mktemp("twice")
    for attempt, step in enumerate((2, 6)):
        with pytest.raises(StepError, match=f"stopped after step {step + 1}"):
            train_here(train_task(folder, attempt=attempt, checkpoint=SELDOM), stop_after=step)
    return folder


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize("name", ["__0_0.distcp", "metadata.json", "state.json"])
@pytest.mark.parametrize("damage", [cut, emptied, Path.unlink])
def test_the_older_one_is_taken_and_it_is_told(
    twice: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = shutil.copytree(twice, tmp_path / "copy")
    task = train_task(folder, attempt=2, checkpoint=SELDOM)
    heard = Heard()
    damage(folder / "storage/work" / task.key / "uid-1/1/step-000000007" / name)
    train_here(task, reporter=heard)
    assert artifact(task).summary["steps"] == 12
    # Without state.json it was never complete.
    complete = (name, damage) != ("state.json", Path.unlink)
    told = ", resumed from step 3" + ", 1 newer cannot be read" * complete
    assert heard.messages[-1].endswith(told)


def test_where_none_is_whole_what_to_delete_is_said(twice: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(twice, tmp_path / "copy")
    task = train_task(folder, attempt=2, checkpoint=SELDOM)
    for file in (folder / "storage/work").rglob("__0_0.distcp"):
        cut(file)
    with pytest.raises(StepError, match=r"step-000000007 cannot be read: .* \(none of 2 in ") as refused:
        train_here(task)
    assert refused.value.code is Exit.DATA
    assert refused.value.hint == f"delete work/{task.key}/uid-1/ and run again: it is trained anew"
