"""Storage that a hostile writer shares, with documents signed: it can delete there, not deceive."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ixt_workloads.store import Artifact, ArtifactWriter, Claim, NotFound, Store, StoreError, committed
from ixt_workloads.store.errors import ContentMismatch, Incomplete
from ixt_workloads.store.gc import plan_gc
from ixt_workloads.store.opening import SIGNING_KEY, open_storage
from ixt_workloads.store.signed import SignedStore

from .conftest import Place

KEY, OTHER = "0" * 64, "1" * 64


@pytest.fixture
def ours(place: Place, store: Store) -> Store:
    return SignedStore(store, KEY)


@pytest.fixture
def foreign(store: Store) -> Store:
    """The same place, for who has another key."""
    return SignedStore(store, OTHER)


def write(store: Store, content: bytes = b"mine", key: str = "k", commit: bool = True) -> ArtifactWriter:
    writer = ArtifactWriter(store, key, "Train", {"a": 1.5}, run="r", attempt=0, run_uid="u")
    writer.add("a", content)
    if commit:
        writer.commit({"loss": 0.1}, ["a"])
    return writer


def test_what_is_signed_is_read_by_all_and_trusted_by_who_has_the_key(
    store: Store, ours: Store, foreign: Store
) -> None:
    write(ours)
    for reader in (ours, store):
        assert Artifact.open(reader, "k").file("a").read_bytes() == b"mine"
    assert not committed(foreign, "k")
    with pytest.raises(NotFound):
        Artifact.open(foreign, "k")


@pytest.mark.parametrize("forger", ["nobody", "another key", "copied", "changed", "deep", "no object"])
def test_a_forged_manifest_is_absent_and_replaced(
    store: Store, ours: Store, foreign: Store, forger: str
) -> None:
    place = "artifacts/k/manifest.json"
    match forger:
        case "nobody":
            write(store, b"evil")
        case "another key":
            write(foreign, b"evil")
        case "copied":
            write(ours, b"evil", key="other")
            store.put(place, store.get("artifacts/other/manifest.json"))
        case "changed":
            write(ours)
            value = json.loads(store.get(place))
            store.put(place, json.dumps(value | {"summary": {"loss": 0}}).encode())
            store.put("artifacts/k/a", b"evil")
        case "deep":
            store.put(place, b'{"a":' * 10_000)
        case "no object":
            store.put(place, b"[1]")
    assert not committed(ours, "k")
    write(ours)
    assert Artifact.open(ours, "k").file("a").read_bytes() == b"mine"


def test_a_shard_that_lay_there_is_rewritten(store: Store, ours: Store) -> None:
    store.put("artifacts/k/a", b"evil")
    writer = write(ours, commit=False)
    assert writer.has("a")
    writer.commit({}, ["a"])
    assert Artifact.open(ours, "k").file("a").read_bytes() == b"mine"


def test_a_shard_without_a_note_is_not_had(store: Store, ours: Store) -> None:
    write(store, b"evil", commit=False)
    assert not ArtifactWriter(ours, "k", "Train", {}, run="r", attempt=1).has("a")


def test_a_shard_of_another_worker_is_kept_if_it_is_what_was_noted(store: Store, ours: Store) -> None:
    write(ours, commit=False)
    next_one = ArtifactWriter(ours, "k", "Train", {}, run="r", attempt=1)
    assert next_one.has("a")
    assert not next_one.add("a", b"other bytes of the same key")
    next_one.commit({}, ["a"])
    assert Artifact.open(ours, "k").file("a").read_bytes() == b"mine"


@pytest.mark.parametrize("use", [lambda writer: writer.commit({}, ["a"]), lambda writer: writer.local("a")])
def test_a_shard_that_was_changed_after_it_was_noted_is_made_anew(
    store: Store, ours: Store, use: Callable[[ArtifactWriter], object]
) -> None:
    write(ours, commit=False)
    store.put("artifacts/k/a", b"evil")
    next_one = ArtifactWriter(ours, "k", "Train", {}, run="r", attempt=1)
    with pytest.raises(Incomplete, match="is not what was written there; run again"):
        use(next_one)
    assert not next_one.has("a")
    write(ours)
    assert Artifact.open(ours, "k").file("a").read_bytes() == b"mine"


def test_a_changed_file_of_a_signed_artifact_is_named(store: Store, ours: Store) -> None:
    write(ours, b"changed later")
    store.put("artifacts/k/a", b"evil")
    with pytest.raises(ContentMismatch):
        Artifact.open(ours, "k").file("a")


def test_a_forged_claim_holds_nobody_up(store: Store, ours: Store) -> None:
    forged = Claim(store, "k", run="evil", run_uid="evil", attempt=0)
    assert forged.acquire() is None
    honest = Claim(ours, "k", run="r", run_uid="u", attempt=0)
    assert honest.acquire() is None
    assert honest.heartbeat()
    second = Claim(ours, "k", run="s", run_uid="v", attempt=0).acquire()
    assert second is not None
    assert second.run == "r"


def test_forged_marks_of_runs_keep_nothing(store: Store, ours: Store) -> None:
    write(ours)
    store.put("runs/evil/s.json", b'{"keys": ["k"]}')
    store.put("runs/worse/s.json", b"not json")

    def garbage() -> list[str]:
        return [item.path for item in plan_gc(ours, timedelta(days=-1)) if item.kind == "Artifact"]

    assert garbage() == ["artifacts/k"]
    ours.put("runs/u/s.json", b'{"keys": ["k"]}')
    assert garbage() == []


def test_a_signature_belongs_to_its_place(store: Store, ours: Store) -> None:
    ours.put("runs/u/a.json", b'{"keys": []}')
    store.put("runs/u/b.json", store.get("runs/u/a.json"))
    assert [info.path for info in ours.list("runs")] == ["runs/u/a.json"]


def test_the_key_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"file://{tmp_path}/store"
    assert not open_storage(uri).signs
    monkeypatch.setenv(SIGNING_KEY, KEY)
    assert open_storage(uri).signs
    monkeypatch.setenv(SIGNING_KEY, "short")
    with pytest.raises(StoreError, match="less than 32 characters; make one by: openssl"):
        open_storage(uri)
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
