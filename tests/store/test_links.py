"""Links that a hostile writer places in a store of files: none is followed, to read, write or delete."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ixt_workloads.store import Store, StoreError, open_store
from ixt_workloads.store.artifact import Artifact, ArtifactWriter
from ixt_workloads.store.errors import FileTooLarge, NotFound


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the store, with a secret, and links to both in the store."""
    folder = tmp_path / "outside"
    (folder / "below").mkdir(parents=True)
    (folder / "secret").write_text("secret")
    (folder / "below/secret").write_text("secret")
    (tmp_path / "store/runs").mkdir()
    (tmp_path / "store/runs/folder").symlink_to(folder)
    (tmp_path / "store/runs/file").symlink_to(folder / "secret")
    return folder


READS: list[Callable[[Store, str], object]] = [Store.get, Store.open_local, Store.sha256]


@pytest.mark.parametrize("read", READS, ids=["get", "open_local", "sha256"])
@pytest.mark.parametrize("path", ["runs/file", "runs/folder/secret", "runs/folder/below/secret"])
def test_no_link_is_read(
    store: Store, outside: Path, read: Callable[[Store, str], object], path: str
) -> None:
    with pytest.raises(StoreError, match="is a link, and links are not followed"):
        getattr(store, read.__name__)(path)
    assert not store.exists(path)


def test_no_link_is_listed(store: Store, outside: Path) -> None:
    store.put("runs/real", b"1")
    assert [info.path for info in store.list("")] == ["runs/real"]
    with pytest.raises(StoreError, match="is a link"):
        store.list("runs/folder")


@pytest.mark.parametrize("path", ["runs/folder/new", "runs/folder/below/new"])
def test_nothing_is_written_behind_a_link(store: Store, outside: Path, path: str) -> None:
    for write in (store.put, store.put_new):
        with pytest.raises(StoreError, match="is a link"):
            write(path, b"evil")
    with pytest.raises(StoreError, match="is a link"):
        store.local_dir(path)
    assert sorted(each.name for each in outside.rglob("*")) == ["below", "secret", "secret"]


def test_a_link_is_replaced_not_written_through(store: Store, outside: Path) -> None:
    store.put("runs/file", b"new")
    assert (outside / "secret").read_text() == "secret"
    assert store.get("runs/file") == b"new"


@pytest.mark.parametrize("path", ["runs/file", "runs/folder", "runs"])
def test_a_link_is_deleted_and_not_what_it_points_to(store: Store, outside: Path, path: str) -> None:
    store.delete_tree(path)
    assert (outside / "below/secret").read_text() == "secret"
    assert (outside / "secret").read_text() == "secret"


def test_nothing_is_deleted_behind_a_link(store: Store, outside: Path) -> None:
    for delete in (store.delete, store.delete_tree):
        with pytest.raises(StoreError, match="is a link"):
            delete("runs/folder/secret")
    assert (outside / "secret").read_text() == "secret"


def test_the_folder_of_temporary_files_may_be_no_link(store: Store, tmp_path: Path, outside: Path) -> None:
    (tmp_path / "store" / "work").mkdir()
    (tmp_path / "store" / "work" / ".tmp").symlink_to(outside)
    with pytest.raises(StoreError, match="is a link"):
        store.put("runs/a", b"1")
    assert len(list(outside.iterdir())) == 2


def test_a_link_is_no_file_of_an_artifact(store: Store, tmp_path: Path, outside: Path) -> None:
    writer = ArtifactWriter(store, "k", "Train", {}, run="r", attempt=0)
    (tmp_path / "store/artifacts/k").mkdir(parents=True)
    (tmp_path / "store/artifacts/k/a").symlink_to(outside / "secret")
    assert not writer.has("a")
    with pytest.raises(StoreError):
        writer.commit({}, ["a"])
    with pytest.raises(NotFound):
        Artifact.open(store, "k")


def test_a_pipe_is_no_file(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "store/pipe")
    with pytest.raises(NotFound):
        store.get("pipe")
    assert not store.exists("pipe")
    assert not list(store.list(""))


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(
    store: Store, tmp_path: Path, outside: Path
) -> None:
    """A racer swaps a folder for a link to another, again and again."""
    place, aside = tmp_path / "store/runs/swapped", tmp_path / "store/runs/aside"
    store.put("runs/swapped/secret", b"mine")
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            place.rename(aside)
            place.symlink_to(outside)
            place.unlink()
            aside.rename(place)

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for _ in range(1000):
            try:
                assert store.get("runs/swapped/secret") == b"mine"
            except StoreError:
                continue
    finally:
        ended.set()
        racer.join()


def test_a_document_that_is_too_long_is_not_read(store: Store) -> None:
    store.put("runs/a.json", b"x" * 1000)
    with pytest.raises(FileTooLarge, match="has more than 999 bytes"):
        store.get("runs/a.json", 999)
