"""URIs of object stores, on a store that lies in a folder here."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from make.corpora import artifact, dataset, inventory_task, jsonl, read, rows
from make.tasks import run_here

from ixt_workloads.contract.credentials import SecretRef
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Dataset
from ixt_workloads.data import locate
from ixt_workloads.data.locate import local_data, local_folder
from ixt_workloads.steps.inventory.files import files_of
from ixt_workloads.store.posix import PosixStore


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What s3://bucket/ holds."""

    def opened(uri: str, _: SecretRef | None = None) -> PosixStore:
        parts = urlsplit(uri)
        return PosixStore(uri, tmp_path / parts.netloc / parts.path.strip("/"))

    monkeypatch.setattr(locate, "open_store", opened)
    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "bucket"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_dataset_is_a_folder_or_a_file_whatever_its_name(bucket: Path, tmp_path: Path) -> None:
    jsonl(bucket / "data-v1.5/a.jsonl", rows(["one"]))
    jsonl(bucket / "data-v1.5/more/b.jsonl.gz", rows(["two"]))
    jsonl(bucket / "data-v1.5/.hidden/c.jsonl", ["nonsense"])
    (bucket / "data-v1.5/README.md").write_text("About it")
    wanted = {"s3://bucket/data-v1.5": {"one", "two"}, "s3://bucket/data-v1.5/a.jsonl": {"one"}}
    for number, (uri, found) in enumerate(wanted.items()):
        storage = tmp_path / f"storage-{number}"
        key = run_here(inventory_task(storage, dataset(uri))).key
        assert {row["text"] for row in read(artifact(storage, key))} == found
    with pytest.raises(StepError, match=r"dataset corpus: s3://bucket/gone\.jsonl does not exist"):
        run_here(inventory_task(tmp_path / "storage", dataset("s3://bucket/gone.jsonl")))


def test_a_fetched_model_folder_holds_what_lies_there_and_nothing_older(bucket: Path) -> None:
    model = bucket / "model"
    for name in ("config.json", "model.safetensors"):
        model.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(name)
    first = locate.local_folder("s3://bucket/model")
    assert names(first) == ["config.json", "model.safetensors"]
    assert locate.local_folder("s3://bucket/model") == first
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    second = locate.local_folder("s3://bucket/model")
    assert names(second) == ["config.json", "model-00001-of-00001.safetensors"]
    assert names(first.parent) == [f"{folder.name}/{name}" for folder in sorted((first, second))
                                   for name in names(folder)]  # fmt: skip


def test_what_is_not_there_or_is_a_folder_is_said(bucket: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for find, uri, message in (
        (locate.local_folder, "s3://bucket/model", "does not exist"),
        (locate.local_file, "s3://bucket/tasks/t.jsonl", "does not exist"),
        (locate.local_folder, f"file://{tmp_path}/none", "does not exist"),
        (locate.local_file, f"file://{tmp_path}/folder", "is a folder"),
    ):
        with pytest.raises(StepError, match=message) as caught:
            find(uri)
        assert (caught.value.code, bool(caught.value.hint)) == (Exit.NO_INPUT, True)


def test_volumes_lie_where_they_are_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "claim/my data").mkdir(parents=True)
    monkeypatch.setenv("IXT_PVC_ROOT", str(tmp_path))
    assert locate.local_folder("pvc://claim/my%20data") == tmp_path / "claim/my data"


# --- What leads out ---


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mount of a claim, beside that of another."""
    monkeypatch.setenv("IXT_PVC_ROOT", str(tmp_path))
    for claim in ("mine", "other"):
        (tmp_path / claim / "data").mkdir(parents=True)
        (tmp_path / claim / "data" / "a.txt").write_text("text")
    return tmp_path / "mine"


@pytest.mark.parametrize(
    "uri",
    [
        "pvc://mine/../other/data",
        "pvc://mine/%2e%2e/other/data",
        "pvc://../mine/data",
        "pvc://mine/out",
        "pvc://mine/out/a.txt",
        "pvc://mine/system/environ",
        "file:///proc/self/environ",
        "file:///%70roc/self/environ",
        "file:///tmp/../proc/self/environ",
        "file:///var/run/secrets/kubernetes.io/serviceaccount",
        "file:///dev/zero",
    ],
)
def test_a_uri_that_leads_out_is_refused(claims: Path, uri: str) -> None:
    (claims / "out").symlink_to(claims.parent / "other" / "data")
    (claims / "system").symlink_to("/proc/self")
    with pytest.raises(StepError, match="leads to where no data lies") as refused:
        local_data(uri)
    assert refused.value.code is Exit.NO_PERMISSION


def test_a_link_within_a_claim_is_followed(claims: Path) -> None:
    (claims / "named").symlink_to("data")
    assert (local_data("pvc://mine/named") / "a.txt").read_text() == "text"


def test_a_file_of_a_dataset_that_leads_out_is_refused(claims: Path) -> None:
    (claims / "data" / "b.txt").symlink_to("/proc/self/environ")
    with pytest.raises(StepError, match="leads to where no data lies"):
        files_of(Dataset(name="d", uri="pvc://mine/data"))


def test_a_file_of_a_model_that_leads_out_is_refused(claims: Path) -> None:
    (claims / "data" / "tokenizer.json").symlink_to(claims.parent / "other" / "data" / "a.txt")
    with pytest.raises(StepError, match="judge: pvc://mine/data leads to where no data lies"):
        local_folder("pvc://mine/data", what="judge")
