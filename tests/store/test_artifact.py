import hashlib
import json
from pathlib import Path

import pytest

from ixt_workloads.contract.exits import Exit
from ixt_workloads.store import Artifact, ArtifactWriter, NotFound, Store, committed, open_store
from ixt_workloads.store.errors import ContentMismatch, Incomplete, InvalidPath

from .conftest import Place

CONTENTS = [b"rows", b'{"levels": 5}']
SHA256 = [hashlib.sha256(content).hexdigest() for content in CONTENTS]
FILES = ["docs-00000.parquet", "nested/conditioning.json"]


def writer(store: Store, run: str = "first", key: str = "k1") -> ArtifactWriter:
    return ArtifactWriter(store, key, "Prepare", {"kind": "Prepare", "version": 1}, run=run, attempt=2)


def written(store: Store) -> Artifact:
    it = writer(store)
    it.add(FILES[0], b"rows")
    it.add(FILES[1], b'{"levels": 5}')
    return it.commit({"documents": 7}, FILES, {"torch": "2.13.0"})


def test_write_and_read(place: Place, store: Store, tmp_path: Path) -> None:
    source = tmp_path / "local"
    source.write_bytes(b"rows")
    it = writer(store)
    assert it.add(FILES[0], source)
    assert not committed(store, "k1")
    assert it.has(FILES[0])
    assert not it.has(FILES[1])
    assert it.add(FILES[1], b'{"levels": 5}')
    it.commit({"documents": 7}, FILES, {"torch": "2.13.0"})
    assert committed(store, "k1")

    artifact = Artifact.open(open_store(place.uri), "k1")
    assert artifact.file(FILES[0]).read_bytes() == b"rows"
    assert artifact.read_json(FILES[1]) == {"levels": 5}
    assert (artifact.key, artifact.paths, artifact.summary) == ("k1", tuple(FILES), {"documents": 7})


def test_the_manifest_as_others_read_it(store: Store) -> None:
    written(store)
    manifest = json.loads(store.get("artifacts/k1/manifest.json"))
    assert manifest.pop("createdAt").endswith("Z")
    assert manifest == {
        "schemaVersion": 1,
        "key": "k1",
        "kind": "Prepare",
        "preimage": {"kind": "Prepare", "version": 1},
        "files": [
            {
                "path": "docs-00000.parquet",
                "size": 4,
                "sha256": SHA256[0],
            },
            {
                "path": "nested/conditioning.json",
                "size": 13,
                "sha256": SHA256[1],
            },
        ],
        "contentHash": hashlib.sha256(
            f"{SHA256[0]} 4 {FILES[0]}\n{SHA256[1]} 13 {FILES[1]}\n".encode()
        ).hexdigest(),
        "summary": {"documents": 7},
        "fingerprint": {"torch": "2.13.0"},
        "createdBy": {"run": "first", "attempt": 2, "runUid": ""},
    }


def test_what_is_not_committed_is_not_there(store: Store) -> None:
    writer(store).add(FILES[0], b"rows")
    with pytest.raises(NotFound):
        Artifact.open(store, "k1")
    with pytest.raises(NotFound, match="has no file other"):
        written(store).file("other")


def test_files_of_others_are_kept_and_hashed(store: Store) -> None:
    assert writer(store, "crashed").add(FILES[0], b"of the crashed one")
    assert not writer(store).add(FILES[0], b"rows")
    artifact = written(store)
    assert artifact.file(FILES[0]).read_bytes() == b"of the crashed one"


def test_any_worker_commits_what_all_wrote(store: Store) -> None:
    workers = [writer(store) for _ in range(3)]
    names = [f"feedback-{index:05d}.parquet" for index in range(3)]
    for it, name in zip(workers, names, strict=True):
        with pytest.raises(Incomplete, match=r"artifact k1 in .* lacks \d of 3 files: feedback-0000"):
            workers[0].commit({}, names)
        it.add(name, name.encode())
    assert workers[1].commit({}, names).paths == tuple(names)


def test_files_of_another_layout_stay_out(store: Store) -> None:
    writer(store).add("feedback-00009.parquet", b"old layout")
    artifact = written(store)
    assert artifact.paths == tuple(FILES)
    with pytest.raises(NotFound):
        artifact.file("feedback-00009.parquet")


def test_the_first_commit_wins(store: Store) -> None:
    first = written(store)
    second = writer(store, "second").commit({"documents": 99}, FILES)
    assert second.manifest == first.manifest


def test_a_commit_that_loses_the_race_reads_the_winners(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written(store)
    monkeypatch.setattr("ixt_workloads.store.artifact.committed", lambda *_: False)
    second = writer(store, "second").commit({"documents": 99}, FILES)
    assert second.manifest == first.manifest


def tamper(place: Place, path: str, content: bytes) -> None:
    file = place.folder / "artifacts/k1" / path
    file.unlink()
    file.write_bytes(content)


def test_changed_content_is_named(place: Place, store: Store) -> None:
    artifact = written(store)
    tamper(place, FILES[0], b"ROWS")
    with pytest.raises(ContentMismatch) as caught:
        artifact.file(FILES[0])
    message = str(caught.value)
    assert f"file {FILES[0]} of artifact k1 in {store.uri} was changed" in message
    assert f"{SHA256[0][:16]}… in the manifest" in message
    assert message.endswith("delete artifacts/k1/ and run again")
    assert caught.value.code is Exit.DATA


def test_content_is_checked_once_a_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = written(store)
    local = artifact.file(FILES[0])
    monkeypatch.setattr("hashlib.file_digest", None)
    assert artifact.file(FILES[0]) == local


def test_a_changed_manifest_is_refused(place: Place, store: Store) -> None:
    written(store)
    good = store.get("artifacts/k1/manifest.json").decode()
    for bad, message in [
        (good.replace('"size": ', '"size": 1'), "was changed: its key is k1"),
        (good.replace('"k1"', '"k2"'), "was changed: its key is k2"),
        (good.replace("nested/", "../../"), "cannot be read"),
        (good.replace('"schemaVersion": 1', '"schemaVersion": 2'), "cannot be read"),
        (good[:-20], "cannot be read"),
    ]:
        assert bad != good
        tamper(place, "manifest.json", bad.encode())
        with pytest.raises(ContentMismatch, match=message):
            Artifact.open(store, "k1")


def test_names_that_are_not_a_steps(store: Store) -> None:
    for path in ("manifest.json", "../k2/a", ""):
        with pytest.raises(InvalidPath):
            writer(store).add(path, b"")
    for key in ("a/b", "", ".."):
        with pytest.raises(InvalidPath):
            writer(store, key=key)
        with pytest.raises(InvalidPath):
            committed(store, key)


def test_a_manifest_with_fields_of_a_newer_version_is_read(place: Place, store: Store) -> None:
    written(store)
    good = store.get("artifacts/k1/manifest.json").decode()
    tamper(place, "manifest.json", good.replace('"key": ', '"licence": "CC0", "key": ', 1).encode())
    assert Artifact.open(store, "k1").manifest.key == "k1"
