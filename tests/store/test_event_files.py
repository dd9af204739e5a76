"""TensorBoard's event files in a folder and in a bucket, as its own reader reads them."""

from datetime import UTC, datetime, timedelta

import pytest
from make.trackers import events, point, scalars, training

from ixt_workloads.store import Store
from ixt_workloads.store.gc import plan_gc
from ixt_workloads.trackers import parts, tensorboard
from ixt_workloads.trackers.points import Tracked
from ixt_workloads.trackers.tensorboard import Events

from .conftest import Place

FOLDER = "tensorboard/test/pretrain/conditioned-s0/0123456789abcdef"


def told(of: Tracked, *steps: int) -> None:
    tracker = Events(of)
    tracker.log([point(step) for step in steps])
    tracker.close(succeeded=True)


def test_curves_config_and_lineage_are_read(store: Store, place: Place) -> None:
    told(training(place.folder, store=store), 1, 2, 5)
    found = events(place.folder / FOLDER)
    assert [(event.step, event.value) for event in found.Scalars("training/loss")] == [
        (1, 10),
        (2, 5),
        (5, 2),
    ]
    assert [event.value for event in found.Scalars("training/tokens")] == [100, 200, 500]
    (config,) = found.Tensors("config/text_summary")
    assert b'train.optimizer.learningRate: "3e-4"' in config.tensor_proto.string_val[0]
    (lineage,) = found.Tensors("lineage/text_summary")
    assert b'pin/judge: "judge-1"' in lineage.tensor_proto.string_val[0]


def test_a_resume_takes_back_what_came_after_its_checkpoint(
    store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = training(place.folder, store=store)
    monkeypatch.setattr(tensorboard.time, "time", lambda: 1_800_000_000)
    told(of, 1, 2, 3, 4)
    monkeypatch.setattr(tensorboard.time, "time", lambda: 1_800_000_060)
    told(of, 3, 4, 5)
    assert [step for step, _ in scalars(place.folder / FOLDER, "training/loss")] == [1, 2, 3, 4, 5]


def test_the_evaluation_adds_to_the_training(
    store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard.time, "time", lambda: 1_800_000_000)
    told(training(place.folder, store=store), 1, 2)
    monkeypatch.setattr(tensorboard.time, "time", lambda: 1_800_000_060)
    evaluation = Events(training(place.folder, store=store, trains=False, config={}))
    evaluation.log([point(2, **{"evaluation/score/Best/sums": 0.75})._replace(step=2)])
    evaluation.close(succeeded=True)
    folder = place.folder / FOLDER
    assert scalars(folder, "evaluation/score/Best/sums") == [(2, 0.75)]
    assert [step for step, _ in scalars(folder, "training/loss")][:2] == [1, 2]


def test_points_are_there_while_it_trains(store: Store, place: Place) -> None:
    now = 0.0
    tracker = Events(training(place.folder, store=store), lambda: now)
    tracker.log([point(1)])
    now = 31.0
    tracker.log([point(2)])
    assert [step for step, _ in scalars(place.folder / FOLDER, "training/loss")] == [1, 2]
    tracker.close(succeeded=True)


def test_files_are_bounded_and_read_as_one_curve(
    store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 2000)
    tracker = Events(training(place.folder, store=store))
    for step in range(1, 101):
        tracker.log([point(step)])
    tracker.close(succeeded=True)
    files = sorted((place.folder / FOLDER).iterdir())
    assert len(files) > 3
    assert all(file.stat().st_size < 4000 for file in files)
    assert [step for step, _ in scalars(place.folder / FOLDER, "training/loss")] == list(range(1, 101))


def test_they_are_no_garbage(store: Store, place: Place) -> None:
    told(training(place.folder, store=store), 1)
    assert plan_gc(store, timedelta(0), datetime.now(UTC) + timedelta(days=365)) == []
