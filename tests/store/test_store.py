import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ixt_workloads.contract.exits import Exit
from ixt_workloads.store import NotFound, Store, StoreError, open_store
from ixt_workloads.store import objects as objects_module
from ixt_workloads.store.errors import FileTooLarge, InvalidPath, StoreNotWritable

from .conftest import Place


def names(store: Store, prefix: str = "") -> list[str]:
    return [info.path for info in store.list(prefix)]


def test_probe_leaves_nothing_behind(store: Store) -> None:
    store.probe()
    assert names(store) == []


def test_put_new_keeps_what_is_there(store: Store) -> None:
    assert store.put_new("artifacts/k/a.json", b"first")
    assert not store.put_new("artifacts/k/a.json", b"second")
    assert store.get("artifacts/k/a.json") == b"first"


def test_put_new_takes_local_files(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100_000)
    assert store.put_new("a/b/c.bin", source)
    source.write_bytes(b"changed later")
    assert store.get("a/b/c.bin") == b"x" * 100_000


def test_a_missing_source_is_not_the_stores_fault(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put_new("a", tmp_path / "nowhere")


def test_empty_files_are_files(store: Store) -> None:
    assert store.put_new("a/empty", b"")
    assert not store.put_new("a/empty", b"x")
    assert store.get("a/empty") == b""


def test_put_overwrites(store: Store, tmp_path: Path) -> None:
    store.put("runs/u.json", b"1")
    store.put("runs/u.json", b"22")
    assert store.get("runs/u.json") == b"22"
    source = tmp_path / "large"
    source.write_bytes(b"y" * (17 * 2**20))
    store.put("runs/u.json", source)
    assert store.get("runs/u.json") == source.read_bytes()


def test_exists(store: Store) -> None:
    store.put_new("a/b", b"")
    assert store.exists("a/b")
    assert not store.exists("a/c")
    assert not store.exists("a")
    assert not store.exists("a/b/c")


def test_list_is_sorted_and_goes_by_folders(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    paths = ["a/b", "a-b/c", "a/c/d", "a/B", "z"]
    for path in reversed(paths):
        store.put(path, path.encode())
    assert names(store) == sorted(paths)
    assert names(store, "a") == ["a/B", "a/b", "a/c/d"]
    assert names(store, "nothing") == []
    first = next(iter(store.list("a")))
    assert (first.size, first.modified > before, first.etag != "") == (3, True, True)


def test_the_etag_follows_the_content(store: Store) -> None:
    store.put("a", b"1")
    old = next(iter(store.list(""))).etag
    store.put("a", b"2")
    assert next(iter(store.list(""))).etag != old


def test_more_files_than_a_page_of_a_listing(place: Place, store: Store) -> None:
    (place.folder / "many").mkdir(parents=True)
    for number in range(2_010):
        (place.folder / f"many/{number:04d}").touch()
    assert names(store, "many") == [f"many/{number:04d}" for number in range(2_010)]
    store.delete_tree("many")
    assert names(store) == []


def test_sha256(store: Store) -> None:
    expected = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    store.put_new("new", b"hello")
    store.put("old", b"hello")
    assert store.sha256("new") == store.sha256("old") == expected


def test_open_local(store: Store) -> None:
    store.put("a/data.arrow", b"1")
    local = store.open_local("a/data.arrow")
    assert (local.name, local.read_bytes()) == ("data.arrow", b"1")
    assert store.open_local("a/data.arrow") == local
    store.put("a/data.arrow", b"22")
    assert store.open_local("a/data.arrow").read_bytes() == b"22"


def test_object_stores_download_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.uri.startswith("file"):
        pytest.skip("nothing is downloaded")
    store.put_new("a", b"1")
    local = store.open_local("a")
    monkeypatch.setattr(objects_module.ObjectStore, "_download", None)
    assert open_store(store.uri).open_local("a") == local


@pytest.mark.parametrize("method", ["get", "open_local", "sha256"])
def test_what_is_missing_is_named(store: Store, method: str) -> None:
    with pytest.raises(NotFound, match=f"{store.uri}/no/such is not there; check") as caught:
        getattr(store, method)("no/such")
    assert caught.value.code is Exit.NO_INPUT


def test_delete(store: Store) -> None:
    for path in ("a/b", "a/c/d", "e"):
        store.put(path, b"")
    store.delete("a/b")
    store.delete("a/b")
    assert names(store) == ["a/c/d", "e"]
    store.delete_tree("a")
    store.delete_tree("a")
    store.delete_tree("e")
    assert names(store) == []
    assert store.put_new("a/b", b"")


def test_work_folders_travel(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = store.local_dir("work/k/u/0")
    (work / "nested").mkdir()
    (work / "nested/__0_0.distcp").write_bytes(b"shard")
    (work / ".metadata").write_bytes(b"meta")
    store.upload_dir("work/k/u/0")
    assert work.exists() == store.uri.startswith("file")
    assert names(store, "work") == ["work/k/u/0/.metadata", "work/k/u/0/nested/__0_0.distcp"]

    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "another machine"))
    other = open_store(store.uri)
    folder = other.local_dir("work/k/u/0")
    if not store.uri.startswith("file"):
        (folder / "left over").write_bytes(b"")
    other.download_dir("work/k/u/0")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        ".metadata",
        "nested/__0_0.distcp",
    ]
    assert (folder / "nested/__0_0.distcp").read_bytes() == b"shard"


def test_paths_cannot_leave_the_store(store: Store) -> None:
    for act in (store.get, store.exists, store.delete, store.delete_tree, store.sha256, store.local_dir):
        with pytest.raises(InvalidPath):
            act("../outside")
    for write in (store.put, store.put_new):
        with pytest.raises(InvalidPath):
            write("/etc/passwd", b"")


def test_what_is_too_large_for_one_part_is_created_once_all_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_module, "MAX_SINGLE_PUT", 2**20)
    (tmp_path / "large").write_bytes(b"first" * 5 * 2**20)  # two parts
    (tmp_path / "other").write_bytes(b"other" * 5 * 2**20)
    assert store.put_new("artifacts/k/large", tmp_path / "large")
    assert not store.put_new("artifacts/k/large", tmp_path / "other")
    assert store.open_local("artifacts/k/large").read_bytes() == (tmp_path / "large").read_bytes()
    assert names(store) == ["artifacts/k/large"]
    # As if it had come between the look and the copy.
    with monkeypatch.context() as patched:
        patched.setattr(type(store), "exists", lambda *_: False)
        assert not store.put_new("artifacts/k/large", tmp_path / "other")
    assert store.sha256("artifacts/k/large") == hashlib.sha256((tmp_path / "large").read_bytes()).hexdigest()
    assert names(store) == ["artifacts/k/large"]


def test_a_file_has_a_limit_in_a_bucket(store: Store, tmp_path: Path) -> None:
    if store.uri.startswith("file"):
        pytest.skip("files have no limit")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(5 * 2**30 + 1)
    with pytest.raises(FileTooLarge, match=r"5,368,709,121 bytes.*; write smaller shards"):
        store.put_new("a", tmp_path / "large")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://host/x", "is not understood; use file:///folder"),
        ("s3://", "is not understood"),
        ("s3://key:very-secret@bucket/x", "credentials come from the environment"),
        ("file://host/x", "write file:///absolute/folder"),
        ("file:///", "does not name a folder"),
        ("file:///a/../b", "does not name a folder"),
        ("s3://bucket/a/../b", "cannot be used in a store"),
        ("pvc://Claim_/x", "write pvc://claim/folder"),
    ],
)
def test_uris_that_cannot_be_opened(uri: str, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(uri)
    assert message in str(caught.value)
    assert "very-secret" not in str(caught.value)


def test_volume_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IXT_PVC_ROOT", raising=False)
    with pytest.raises(StoreError, match="set IXT_PVC_ROOT"):
        open_store("pvc://data/runs")
    monkeypatch.setenv("IXT_PVC_ROOT", str(tmp_path))
    with pytest.raises(NotFound, match=r"is not mounted at .*; mount the volume claim there, or make"):
        open_store("pvc://data/runs")
    (tmp_path / "data").mkdir()
    open_store("pvc://data/runs").put_new("a", b"1")
    assert (tmp_path / "data/runs/a").read_bytes() == b"1"


def test_plain_http_needs_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.storage:9000")
    with pytest.raises(StoreError, match="AWS_ALLOW_HTTP=true"):
        open_store("s3://bucket/x")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    open_store("s3://bucket/x")


def test_a_server_that_overwrites_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(path: str, data: bytes | Path) -> bool:
        store.put(path, data)
        return True

    monkeypatch.setattr(store, "put_new", careless)
    with pytest.raises(StoreNotWritable, match="only create if absent; use a server with conditional puts"):
        store.probe()
