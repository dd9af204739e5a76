"""A trained model for others: its folder, verified, with a card, in a folder, a bucket or on the hub."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ixt_workloads.asking import Level, asked_for
from ixt_workloads.card import card
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.exported import ExportQuestion
from ixt_workloads.feedback.prefixes import FILE, Prefixes
from ixt_workloads.store import Artifact, NotFound, Store, open_storage, open_store
from ixt_workloads.store.errors import from_os_error
from ixt_workloads.tokenizer import load_tokenizer, save_tokenizer

CARD = "README.md"
LEFT_OUT = ("curve.json",)
"""Files of a training that are no part of a model's folder."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def export(question: ExportQuestion) -> str:
    """Export a model and say where it is. Raises StepError and StoreError; a target is whole or not there."""
    store = open_storage(question.storage)
    trained = _opened(store, question.train, question.name)
    contract = Prefixes.read(trained)
    asked = asked_for(contract, _level_of(question.prefix))
    with _place(question.target) as (folder, publish):
        for path in trained.paths:
            if path not in LEFT_OUT:
                shutil.copyfile(trained.file(path), folder / path)
        if question.prefix != "best":
            _with_tokenizer(folder, contract, asked)
        evaluated = _opened(store, question.evaluate, question.name) if question.evaluate else None
        report = Artifact.open(store, question.report) if question.report else None
        (folder / CARD).write_text(card(question, trained, contract, evaluated, report))
        return publish()


def _level_of(prefix: str) -> Level:
    """The level of `best`, `none` or `level=N`."""
    match prefix:
        case "best" | "none":
            return prefix
        case _:
            return int(prefix.removeprefix("level="))


def _opened(store: Store, key: str, name: str) -> Artifact:
    try:
        return Artifact.open(store, key)
    except NotFound:
        raise StepError(
            Exit.NO_INPUT,
            f"{name} is not trained yet ({key} is not in {store.uri})",
            "run it to its end first",
        ) from None


def _with_tokenizer(folder: Path, contract: Prefixes | None, asked: str) -> None:
    """Replace the tokenizer by one that asks for `asked`, if that is not empty."""
    tokenizer = load_tokenizer(folder)
    for name in TOKENIZER:
        (folder / name).unlink(missing_ok=True)
    save_tokenizer(folder, tokenizer, contract if asked else None, asked)
    assert (folder / FILE).exists(), "the contract goes with every model"


Publish = Callable[[], str]
"""Makes what was written appear at the target, and says where."""


@contextmanager
def _place(target: str) -> Iterator[tuple[Path, Publish]]:
    """A folder to write into, and what publishes it. Whether the target can be written is known before."""
    scheme = urlsplit(target).scheme
    if scheme == "file":
        with _beside(Path(unquote(urlsplit(target).path))) as place:
            yield place
        return
    publish = _hub(target) if scheme == "hf" else _bucket(target)
    with tempfile.TemporaryDirectory(prefix="ixt-export-") as name:
        yield Path(name), lambda: publish(Path(name))


@contextmanager
def _beside(folder: Path) -> Iterator[tuple[Path, Publish]]:
    """A folder beside the target, which takes its name once it is whole."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StepError(Exit.USAGE, f"{folder} is there already", "name a folder that is not, or is empty")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise from_os_error(error, str(folder)) from error

    def publish() -> str:
        part.chmod(0o755)
        part.replace(folder)
        return str(folder)

    try:
        yield part, publish
    except OSError as error:
        raise from_os_error(error, str(folder)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _bucket(target: str) -> Callable[[Path], str]:
    store = open_store(target)
    if next(store.list(""), None) is not None:
        raise StepError(Exit.USAGE, f"{target} has files already", "name a prefix that has none")

    def publish(folder: Path) -> str:
        # config.json last: without it nobody takes the prefix for a model.
        for file in sorted(folder.iterdir(), key=lambda file: file.name == "config.json"):
            store.put_new(file.name, file)
        return target

    return publish


def _hub(target: str) -> Callable[[Path], str]:
    """A new, private repository of the Hugging Face hub, by its own client."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    name = target.removeprefix("hf://")
    api: Any = huggingface_hub.HfApi()
    if not huggingface_hub.get_token():
        raise StepError(Exit.USAGE, f"{target} needs a token", "run `hf auth login`, or set HF_TOKEN")

    def told(error: Exception) -> StepError:
        text = " ".join(str(error).split())
        return StepError(
            Exit.UNAVAILABLE, f"{target} cannot be written: {text}", "see its name and the token"
        )

    try:
        if api.repo_exists(name) and any(
            path not in (".gitattributes", CARD) for path in api.list_repo_files(name)
        ):
            raise StepError(Exit.USAGE, f"{target} has files already", "name a repository that has none")
        api.create_repo(name, private=True, exist_ok=True)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        raise told(error) from None

    def publish(folder: Path) -> str:
        try:
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Exported by ixt")
        except (HfHubHTTPError, OSError, RuntimeError) as error:  # the last is how it tells of a file
            raise told(error) from None
        return f"{api.endpoint}/{name} (private)"

    return publish
