"""Crashes, races, full and read-only disks, servers that are not there."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from ixt_workloads.contract.exits import Exit
from ixt_workloads.store import (
    Artifact,
    ArtifactWriter,
    NotFound,
    Store,
    StoreError,
    committed,
    open_store,
    remote,
)
from ixt_workloads.store.errors import StoreFull, StoreNotWritable, StoreUnavailable

from .conftest import SECRET, Place, Server

HERE = Path(__file__).parent


def test_killed_at_every_step(place: Place) -> None:
    """Whatever a dead writer leaves, an artifact is whole or not there, and the next writer completes it."""
    script = subprocess.run(
        [sys.executable, HERE / "killed_writer.py", place.uri], check=True, capture_output=True, text=True
    )
    writers = int(script.stdout)
    assert writers > 10
    done = 0
    for number in range(1, writers + 1):
        store = open_store(f"{place.uri}/{number}")
        done += committed(store, "k")
        paths = ["a.bin", "nested/b.bin"]
        writer = ArtifactWriter(store, "k", "Train", {}, run="next", attempt=1)
        for path in paths:
            writer.add(path, path[-5:-4].encode() * 1000)
        artifact = writer.commit({}, paths)
        for path in paths:
            assert artifact.file(path).read_bytes() == path[-5:-4].encode() * 1000
    assert 1 <= done < writers


def test_races(place: Place) -> None:
    names = ["left", "right"]
    racers = [
        subprocess.Popen(
            [sys.executable, HERE / "racer.py", place.uri, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    left, right = (json.loads(racer.communicate()[0]) for racer in racers)

    assert [a + b for a, b in zip(left["won"], right["won"], strict=True)] == [1] * len(left["won"])
    store = open_store(place.uri)
    for number, first in enumerate(left["won"]):
        winner = names[0] if first else names[1]
        assert store.get(f"race/{number}") == f"{winner}-{number}".encode() * 1000
    for part in ("hash", "by", "contents", "holders"):
        assert left[part] == right[part]
    owners = [names[0] if first else names[1] for first in left["added"]]
    assert left["contents"] == [f"{owner}-{number}" for number, owner in enumerate(owners)]


def test_folders_that_vanish_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"file://{tmp_path}")
    link, tries = os.link, []

    def unlucky(source: str, target: str, **where: Any) -> None:
        tries.append(target)
        if len(tries) < 3:
            (tmp_path / "a").rmdir()
        link(source, target, **where)

    monkeypatch.setattr(os, "link", unlucky)
    assert store.put_new("a/b", b"1")
    assert len(tries) == 3


def test_nfs_says_exists_to_the_one_who_made_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"file://{tmp_path}")
    link = os.link

    def repeated(source: str, target: str, **where: Any) -> None:
        link(source, target, **where)
        link(source, target, **where)

    monkeypatch.setattr(os, "link", repeated)
    assert store.put_new("a", b"1")
    assert not store.put_new("a", b"2")


def test_file_systems_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"file://{tmp_path}")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(StoreNotWritable, match=r"without hard links \(operation not permitted\); use a"):
        store.probe()


@pytest.mark.parametrize("call", ["fsync", "link", "mkdir", "open"])
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreNotWritable),
        (errno.EACCES, StoreNotWritable),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
    ],
)
def test_errors_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[StoreError]
) -> None:
    store = open_store(f"file://{tmp_path}/store")

    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(error, match=f"file://{tmp_path}/store/a/b.*{os.strerror(number).lower()}; "):
            store.put_new("a/b", b"1")
    assert [info.path for info in store.list("")] == []
    assert store.put_new("a/b", b"1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    store = open_store(f"file://{small_disk}/store")
    store.put_new("a", b"1")
    with pytest.raises(StoreFull, match=r"no space for .*/b: no space left on device; free") as caught:
        store.put_new("b", b"x" * 2**20)
    assert caught.value.code is Exit.STORAGE_FULL
    assert [info.path for info in store.list("")] == ["a"]
    assert store.put_new("b", b"x" * 2**10)


def test_a_read_only_disk(small_disk: Path) -> None:
    store = open_store(f"file://{small_disk}/store")
    store.put_new("a", b"1")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreNotWritable, match="read-only file system") as caught:
        store.probe()
    assert caught.value.code is Exit.NOT_WRITABLE
    assert store.get("a") == b"1"


def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("root writes everywhere")
    with pytest.raises(StoreNotWritable, match="permission denied; let this user write"):
        open_store(f"file://{tmp_path}/store").probe()


def test_a_full_cache(s3: Server, small_disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IXT_CACHE", str(small_disk))
    store = open_store(f"s3://{s3.bucket.name}/{tmp_path.name}")
    store.put_new("a", b"x" * 2**20)
    with pytest.raises(StoreFull, match="IXT_CACHE"):
        store.open_local("a")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY", {"max_retries": 1, "retry_timeout": timedelta(seconds=1)})


@pytest.mark.usefixtures("s3", "impatient")
def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = open_store("s3://ixt-test/x")
    for act in (store.probe, lambda: store.get("a"), lambda: list(store.list(""))):
        with pytest.raises(
            StoreUnavailable, match=r"s3://ixt-test/x.* cannot be reached: HTTP error.*; check"
        ):
            act()


def test_a_machine_without_certificates_of_authorities(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.crt"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(StoreError, match="no certificates of authorities are installed here"):
        open_store("s3://bucket/runs")


def test_a_bucket_that_is_not_there(s3: Server) -> None:
    store = open_store("s3://no-such-bucket/x")
    for act in (store.probe, lambda: list(store.list(""))):
        with pytest.raises(NotFound, match=r"bucket of s3://no-such-bucket/x.* does not exist; create it"):
            act()


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_not_shown(s3: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "wrong-and-private")
    store: Store = open_store(f"s3://{s3.bucket.name}/x")
    with pytest.raises(StoreNotWritable, match=r"no access to .*; check credentials") as caught:
        store.probe()
    told = str(caught.value)
    for private in ("wrong-and-private", SECRET, "StringToSign", "Signature="):
        assert private not in told
    assert len(told) < 400


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Server returned non-2xx status code: 507 Insufficient Storage: ", StoreFull),
        ("status code: 403 Forbidden: <Error><Code>QuotaExceeded</Code></Error>", StoreFull),
        ("status code: 503 Slow Down: <Error><Code>SlowDown</Code></Error>", StoreUnavailable),
        ("status code: 409 Conflict: <Error><Code>ConditionalRequestConflict</Code>", StoreUnavailable),
        ("status code: 400 Bad Request: <Error><Code>AuthorizationHeaderMalformed</Code>", StoreError),
        ("Error performing PUT http://169.254.169.254/latest/api/token in 1ms", StoreNotWritable),
        ("Error performing GET http://x in 1s - HTTP error: operation timed out\nDebug: x", StoreUnavailable),
    ],
)
def test_answers_of_servers(text: str, error: type[StoreError]) -> None:
    kind = PermissionDeniedError if "403" in text else GenericError
    found = remote.from_remote_error(kind(text), "s3://b/x")
    assert type(found) is error
    assert "s3://b/x" in str(found)
    assert "Debug" not in str(found)


def test_a_leftover_of_another_attempt_is_used(place: Place) -> None:
    store = open_store(place.uri)
    ArtifactWriter(store, "k", "Train", {}, run="r", attempt=0).add("a", b"1")
    writer = ArtifactWriter(store, "k", "Train", {}, run="r", attempt=1)
    assert writer.has("a")
    writer.commit({}, ["a"])
    assert Artifact.open(store, "k").manifest.created_by.attempt == 1
