"""Every test with `store` runs against a folder and against a real S3 server (docs/test-cluster.md)."""

import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import binaries
from make import loopback

from ixt_workloads.store import Store, open_store

BUCKET = "ixt-test"
ACCESS, SECRET = "ixt-access", "ixt-secret-of-tests"
SHARED = "ixt-shared"
"""A bucket in which each of `ACCOUNTS` may read the folder of its name and no other."""
ACCOUNTS = {"one": "secret-of-one", "two": "secret-of-two"}


@dataclass(frozen=True)
class Server:
    endpoint: str
    bucket: Path
    """The bucket's folder, in which a key is a file."""


@pytest.fixture(scope="session")
def s3server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = binaries.find("versitygw")
    if program is None:
        pytest.skip("no S3 server: `make s3server` builds it (needs Go)")
    folder = tmp_path_factory.mktemp("s3")
    accounts = tmp_path_factory.mktemp("accounts")
    (folder / BUCKET).mkdir()
    _share(folder / SHARED, accounts)
    environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
    with loopback.part() as part, (folder.parent / "s3.log").open("w") as output:
        port = loopback.port(part)
        options = ["--quiet", "--iam-dir", str(accounts), "--port", f"127.0.0.1:{port}"]
        command = [str(program), *options, "posix", str(folder)]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            _wait(process, port)
            yield Server(f"http://127.0.0.1:{port}", folder / BUCKET)
        finally:
            process.kill()
            process.wait()


def _share(bucket: Path, accounts: Path) -> None:
    """A bucket's policy and the accounts that it speaks of, as the server keeps them."""
    bucket.mkdir()
    users = {
        name: {"access": name, "secret": secret, "role": "user", "userID": 0, "groupID": 0, "projectID": 0}
        for name, secret in ACCOUNTS.items()
    }
    (accounts / "users.json").write_text(json.dumps({"accessAccounts": users}))
    arn = f"arn:aws:s3:::{SHARED}"
    allowed = [
        {"Effect": "Allow", "Principal": {"AWS": [name]}, "Action": [action], "Resource": [resource]}
        for name in ACCOUNTS
        for action, resource in (("s3:ListBucket", arn), ("s3:GetObject", f"{arn}/{name}/*"))
    ]
    policy = {"Version": "2012-10-17", "Statement": allowed}
    os.setxattr(bucket, "user.policy", json.dumps(policy).encode())


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("the S3 server did not start; see s3.log")


@pytest.fixture
def s3(s3server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, named by the environment as a user would."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
    return s3server


@dataclass(frozen=True)
class Place:
    """Where a store's files lie, to change them behind its back."""

    uri: str
    folder: Path


@pytest.fixture(params=["posix", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "posix":
        return Place(f"file://{tmp_path}/store", tmp_path / "store")
    server: Server = request.getfixturevalue("s3")
    prefix = f"runs/{uuid.uuid4().hex}"
    return Place(f"s3://{BUCKET}/{prefix}", server.bucket / prefix)


@pytest.fixture
def store(place: Place) -> Store:
    return open_store(place.uri)
