"""Places that are read with a Secret of their own, in one process with others."""

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from make.corpora import artifact, dataset, inventory_task, jsonl, read, rows
from make.tasks import run_here

from ixt_workloads.contract.credentials import SecretRef, entries_of, prefix_of, secrets_of
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.settings import Dataset
from ixt_workloads.data.locate import local_data
from ixt_workloads.store import NotFound, StoreError, open_store
from ixt_workloads.store.errors import StoreNotWritable

from .conftest import ACCOUNTS, SHARED, Server


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> "Own":
    return Own(monkeypatch)


class Own:
    """Secrets whose entries a pod finds among its variables."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def secret(self, secret: str, **entries: str) -> SecretRef:
        for name, value in entries.items():
            self._monkeypatch.setenv(f"{prefix_of(secret)}{name}", value)
        return SecretRef(name=secret)


class Asked:
    """A server that has nothing, and what it was sent as credentials."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers: list[dict[str, str]] = []

    def last(self, name: str) -> str | None:
        """A header of the newest request."""
        return self.headers[-1].get(name)


@pytest.fixture
def asked() -> Iterator[Asked]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Asked(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def storages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the run's storage, none of which is any place's own business."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-storage")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-storage")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-storage")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("HF_TOKEN", "hub-of-the-storage")


def keys(number: int, endpoint: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": f"key-{number}",
        "AWS_SECRET_ACCESS_KEY": f"secret-{number}",
        "AWS_ENDPOINT_URL": endpoint,
    }


@pytest.mark.usefixtures("storages")
def test_a_secret_takes_the_place_of_all_variables_of_buckets(asked: Asked, own: Own) -> None:
    first, second = own.secret("first", **keys(1, asked.url)), own.secret("second", **keys(2, asked.url))
    before = dict(os.environ)
    stores = [open_store("s3://bucket/x", secret) for secret in (first, second)]
    assert dict(os.environ) == before
    for number, store in [(1, stores[0]), (2, stores[1]), (1, stores[0])]:
        with pytest.raises(NotFound):
            store.get("a")
        signed = asked.last("authorization")
        assert signed is not None
        assert f"Credential=key-{number}/" in signed
        assert "/us-east-1/" in signed
        assert asked.last("x-amz-security-token") is None


@pytest.mark.usefixtures("storages")
def test_without_a_secret_of_its_own_a_place_is_read_with_the_storages(
    asked: Asked, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", asked.url)
    own.secret("another", **keys(1, asked.url))
    for secret in (None, SecretRef(name="of-the-storage")):
        with pytest.raises(NotFound):
            open_store("s3://bucket/x", secret).get("a")
        assert "Credential=of-the-storage/" in (asked.last("authorization") or "")
        assert asked.last("x-amz-security-token") == "token-of-the-storage"


@pytest.mark.usefixtures("storages")
def test_plain_http_needs_the_consent_of_the_places_secret(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    secret = own.secret("first", **keys(1, "http://minio.storage:9000"))
    before = dict(os.environ)
    with pytest.raises(StoreError, match="AWS_ALLOW_HTTP=true"):
        open_store("s3://bucket/x", secret)
    assert dict(os.environ) == before
    open_store("s3://bucket/x", own.secret("first", AWS_ALLOW_HTTP="true"))


def test_google_cloud_takes_the_places_key_and_not_the_storages(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/no/such/file")
    with pytest.raises(StoreError):
        open_store("gs://bucket/x")
    open_store("gs://bucket/x", own.secret("public", GOOGLE_SKIP_SIGNATURE="true"))


@pytest.mark.usefixtures("storages")
def test_the_hub_is_asked_with_the_places_token(
    asked: Asked, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", asked.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for secret, sent in (
        (own.secret("first", HF_TOKEN="token-1"), "Bearer token-1"),
        (own.secret("second", HF_TOKEN="token-2"), "Bearer token-2"),
        (own.secret("bucket", AWS_ACCESS_KEY_ID="key"), None),
        (None, "Bearer hub-of-the-storage"),
    ):
        with pytest.raises(StepError, match="cannot be had") as caught:
            local_data("hf://owner/gated", secret)
        assert asked.last("authorization") == sent
        assert "HF_TOKEN of what is private" in caught.value.hint
        assert "token-" not in caught.value.message + caught.value.hint


def account(own: Own, server: Server, name: str) -> SecretRef:
    """The Secret of an account of the shared bucket."""
    return own.secret(
        f"keys-of-{name}",
        AWS_ENDPOINT_URL=server.endpoint,
        AWS_ACCESS_KEY_ID=name,
        AWS_SECRET_ACCESS_KEY=ACCOUNTS[name],
    )


def test_two_datasets_of_a_bucket_with_an_account_each(
    s3: Server, own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ACCOUNTS:
        jsonl(s3.bucket.parent / SHARED / name / "a.jsonl", rows([f"text of {name}"]))
    request = [
        dataset(f"s3://{SHARED}/{name}", name, credentials_secret_ref=account(own, s3, name))
        for name in ACCOUNTS
    ]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    key = run_here(inventory_task(tmp_path / "storage", *request)).key
    assert {row["text"] for row in read(artifact(tmp_path / "storage", key))} == {
        "text of one",
        "text of two",
    }


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_the_wrong_account_is_refused_and_not_shown(s3: Server, own: Own, name: str) -> None:
    """Also what another account has fetched to this machine is not for it."""
    jsonl(s3.bucket.parent / SHARED / "one" / "a.jsonl", rows(["text"]))
    uri = f"s3://{SHARED}/one"
    open_store(uri, account(own, s3, "one")).open_local("a.jsonl")
    with pytest.raises(StoreNotWritable, match="check credentials"):
        open_store(uri, account(own, s3, "two")).open_local("a.jsonl")
    account(own, s3, "two")
    wrong = own.secret("keys-of-two", **{name: "wrong-and-private"})
    with pytest.raises(StoreNotWritable, match="check credentials") as caught:
        open_store(uri, wrong).get("a.jsonl")
    for private in ("wrong-and-private", ACCOUNTS["two"], "StringToSign", "Signature="):
        assert private not in str(caught.value)


def test_no_two_secrets_share_a_variable() -> None:
    names = ("keys", "keys.a", "keys-a", "keys-a-aws", "keys-")
    prefixes = [prefix_of(name) for name in names]
    assert not [(one, two) for one in prefixes for two in prefixes if one != two and two.startswith(one)]
    assert len(set(prefixes)) == len(names)
    variables = {f"{prefix}AWS_REGION": name for prefix, name in zip(prefixes, names, strict=True)}
    assert [entries_of(SecretRef(name="keys-a"), variables)] == [{"AWS_REGION": "keys-a"}]


def test_the_secrets_of_a_config_are_those_of_its_places(tmp_path: Path) -> None:
    plain: Dataset = dataset("s3://bucket/x", "plain")
    private: Dataset = dataset("s3://bucket/y", "private", credentials_secret_ref=SecretRef(name="keys"))
    assert secrets_of(inventory_task(tmp_path, plain).config) == set()
    assert secrets_of(inventory_task(tmp_path, plain, private).config) == {"keys"}
