import json
from datetime import UTC, datetime, timedelta

import pytest

from ixt_workloads.store import ArtifactWriter, Claim, NotFound, Store, StoreError, committed
from ixt_workloads.store.gc import plan_gc, sweep

WEEK = timedelta(days=7)
LATER = datetime.now(UTC) + timedelta(days=8)


def artifact(store: Store, key: str) -> None:
    writer = ArtifactWriter(store, key, "Train", {}, run="r", attempt=0)
    writer.add("a.bin", b"12345")
    writer.add("b/c.bin", b"67")
    writer.commit({}, ["a.bin", "b/c.bin"])


def mark(store: Store, uid: str, *keys: str) -> None:
    """Under one uid each key in a file of its own, as stages of a run have."""
    for stage, key in enumerate(keys):
        store.put(f"runs/{uid}/stage-{stage}.json", json.dumps({"keys": [key], "name": "x"}).encode())


def found(store: Store, now: datetime = LATER) -> list[tuple[str, str]]:
    return [(item.kind, item.path) for item in plan_gc(store, WEEK, now)]


def test_what_runs_need_stays(store: Store) -> None:
    for key in ("k1", "k2", "k3"):
        artifact(store, key)
    mark(store, "u1", "k1")
    mark(store, "u2", "k1", "k2")
    assert found(store) == [("Artifact", "artifacts/k3")]


def test_what_is_young_stays(store: Store) -> None:
    artifact(store, "k1")
    assert found(store, datetime.now(UTC)) == []


def test_artifacts_without_manifest_count(store: Store) -> None:
    ArtifactWriter(store, "k1", "Train", {}, run="r", attempt=0).add("a", b"123")
    (item,) = plan_gc(store, WEEK, LATER)
    assert (item.kind, item.path, item.size) == ("Artifact", "artifacts/k1", 3)


def test_work_stays_while_its_run_wants_it(store: Store) -> None:
    mark(store, "u1", "wanted", "done")
    artifact(store, "done")
    for folder in ("wanted/u1/0", "done/u1/0", "wanted/u2/1", ".tmp"):
        store.put(f"work/{folder}/file", b"1")
    assert found(store) == [
        ("Work", "work/.tmp/file"),
        ("Work", "work/done/u1"),
        ("Work", "work/wanted/u2"),
    ]


def test_dead_claims(store: Store) -> None:
    Claim(store, "k1", run="r", run_uid="u1", attempt=0).acquire()
    assert found(store, datetime.now(UTC)) == []
    assert found(store) == [("Claim", "claims/k1")]


def test_sweep(store: Store) -> None:
    for key in ("k1", "k2"):
        artifact(store, key)
    store.put("work/k2/u9/0/shard", b"1")
    Claim(store, "k2", run="r", run_uid="u9", attempt=0).acquire()
    mark(store, "u1", "k1")
    plan = plan_gc(store, WEEK, LATER)
    assert sum(item.size for item in plan if item.kind == "Work") == 1
    assert list(sweep(store, plan)) == plan
    assert {info.path.split("/")[1] for info in store.list("")} == {"k1", "u1"}
    assert list(sweep(store, plan)) == plan


def test_sweep_spares_what_came_into_use(store: Store) -> None:
    artifact(store, "k1")
    plan = plan_gc(store, WEEK, LATER)
    mark(store, "u1", "k1")
    assert list(sweep(store, plan)) == []
    assert committed(store, "k1")


def test_a_sweep_cut_short_leaves_no_artifact_that_looks_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact(store, "k1")
    plan = plan_gc(store, WEEK, LATER)

    def killed(prefix: str) -> None:
        raise KeyboardInterrupt(prefix)

    monkeypatch.setattr(store, "delete_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        list(sweep(store, plan))
    assert not committed(store, "k1")
    assert store.exists("artifacts/k1/a.bin")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": 3}'])
def test_nothing_is_planned_with_unreadable_marks(store: Store, content: bytes) -> None:
    artifact(store, "k1")
    mark(store, "u1", "k1")
    store.put("runs/u1/stage-1.json", content)
    with pytest.raises(StoreError, match=r"runs/u1/stage-1\.json does not say which artifacts its run needs"):
        plan_gc(store, WEEK, LATER)


def test_an_empty_store(store: Store) -> None:
    assert found(store) == []
    with pytest.raises(NotFound):
        store.get("runs/u1/stage-0.json")
