"""Tasks of the harness: found by name, refused by name where they cannot be asked, and pinned by content."""

import contextlib
import difflib
import hashlib
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Harness, HarnessTask
from ixt_workloads.data.locate import inside, local_tree, unreadable
from ixt_workloads.data.pinned import contents, digest

SANDBOXED = ("humaneval", "humaneval_infilling", "mbpp")
"""Folders of the harness's tasks that run a model's code by `code_eval` alone, which the sandbox replaces."""

_RUNS_CODE = ("cruxeval", "longproc")
"""Those that run it by themselves."""

_FUNCTION = re.compile(r"lm_eval\.tasks\.[A-Za-z0-9_.]+")
_MOST_FILES = 10_000
_SEED = 1234
"""What examples are drawn with, as the harness does by default."""


class Tasks(NamedTuple):
    """Tasks that are ready to be asked."""

    by_name: dict[str, Any]
    """Single tasks: groups and tags are opened."""
    pin: str
    """Content hash of what decides how they are asked and scored: the harness's version, a folder's files,
    and the data."""

    def writing(self, *, wanted: bool) -> dict[str, Any]:
        """Those that are answered in words, or the others."""
        return {
            name: task for name, task in self.by_name.items() if (kind_of(task) == "generate_until") is wanted
        }


def kind_of(task: Any) -> str:
    """loglikelihood, loglikelihood_rolling, multiple_choice or generate_until."""
    return str(task.OUTPUT_TYPE)


@contextlib.contextmanager
def loaded(harness: Harness, *, chat: bool) -> Iterator[Tasks]:
    """The tasks of a harness, loaded with their data; `chat`: they are asked of a model of conversations.

    To be used within `sandboxed`. Raises StepError that names the task for one that there is not, whose data
    cannot be had, or that cannot be asked.
    """
    import datasets
    import lm_eval.tasks

    datasets.disable_progress_bars()
    cache = datasets.config.HF_DATASETS_CACHE
    parts: list[Any] = [version("lm-eval")]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ixt-harness-") as folder:
        brought = None
        try:
            for wanted in harness.tasks:
                if wanted.uri is None:
                    brought = brought or lm_eval.tasks.TaskManager()
                    made = _made(wanted, brought)
                else:
                    # A copy of its own: the harness follows links, and nothing changes it meanwhile.
                    place = Path(folder, wanted.name)
                    shutil.copytree(task_folder(wanted), place)
                    parts.append(contents(place, place.rglob("*")))
                    datasets.config.HF_DATASETS_CACHE = Path(folder, ".cache")
                    own = lm_eval.tasks.TaskManager(include_path=place, include_defaults=False)
                    with contextlib.chdir(place):  # what its YAML calls data files
                        made = _made(wanted, own)
                    datasets.config.HF_DATASETS_CACHE = cache
                for name, task in made.items():
                    _check(name, task, chat=chat)
                    _show_examples(name, task, harness.fewshot)
                    found.setdefault(name, task)
            parts += [[name, _data(task)] for name, task in sorted(found.items())]
            yield Tasks(found, digest(parts))
        finally:
            datasets.config.HF_DATASETS_CACHE = cache


def restart_examples(task: Any) -> None:
    """Draw a task's examples anew as the first time, so that every prefix sees the same."""
    task.set_fewshot_seed(seed=_SEED)


def _made(wanted: HarnessTask, manager: Any) -> dict[str, Any]:
    if wanted.name not in manager.all_tasks:
        near = difflib.get_close_matches(wanted.name, manager.all_tasks, 1)
        where = wanted.uri or f"lm-evaluation-harness {version('lm-eval')}"
        hint = f"did you mean {near[0]}?" if near else "`lm-eval ls tasks` lists what there is"
        raise StepError(Exit.CONFIG, f"harness: {where} has no task {wanted.name}", hint)
    try:
        # What tasks are warned of by Python is nobody's matter here.
        with warnings.catch_warnings(action="ignore"):
            made: dict[str, Any] = manager.load([wanted.name])["tasks"]
    except StepError:
        raise
    except (OSError, ConnectionError) as error:
        # DatasetNotFoundError, OfflineModeIsEnabled and errors of HTTP are such.
        raise StepError(
            Exit.NO_INPUT,
            f"harness: data of task {wanted.name} cannot be reached: {_line(error)}",
            "without the hub, put them into its cache (HF_HOME), or give a folder with task and data: uri",
        ) from None
    except Exception as error:  # noqa: BLE001 - tasks raise what they like
        raise StepError(
            Exit.CONFIG,
            f"harness: task {wanted.name} cannot be loaded: {type(error).__name__}: {_line(error)}",
            "leave it out, or give a folder with a task that can be: uri",
        ) from None
    if not made:
        raise StepError(Exit.CONFIG, f"harness: {wanted.name} has no tasks", "name another")
    return made


def _check(name: str, task: Any, *, chat: bool) -> None:
    """Raise StepError for a task that cannot be asked here, or not under a prefix."""
    folders = {_module(value) for value in _values(task.dump_config(), task)} - {""}
    why = ""
    if getattr(task, "MULTIMODAL", False):
        why = "it asks about pictures or sounds"
    elif folders & {*_RUNS_CODE} or (getattr(task, "UNSAFE_CODE", False) and not folders & {*SANDBOXED}):
        why = "it runs a model's code by itself, not in ixt's sandbox"
    elif chat and kind_of(task) == "loglikelihood_rolling":
        why = "it scores running text, where a model of conversations has no place for a prefix"
    if why:
        raise StepError(Exit.CONFIG, f"harness: task {name} cannot be asked: {why}", "leave it out")


def _show_examples(name: str, task: Any, wanted: int | None) -> None:
    """Set how many solved examples a task shows. As in the harness, one that shows none stays so."""
    own = task.get_config("num_fewshot")
    if wanted is not None and own != 0:
        task.set_config(key="num_fewshot", value=wanted)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    if task.get_config("num_fewshot") and not hasattr(task, "sampler"):
        raise StepError(
            Exit.CONFIG, f"harness: task {name} has no examples to show", "set fewshot to 0, or leave it out"
        )


def _values(value: Any, task: Any) -> Iterator[Any]:
    """Everything callable in a task's config, and the class of the task."""
    yield type(task)
    stack = [vars(task.config) if hasattr(task, "config") else value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack += one.values()
        elif isinstance(one, list | tuple):
            stack += one
        elif callable(one):
            yield one


def _module(value: Any) -> str:
    """The folder of the harness's tasks that something comes from; empty for what comes from elsewhere."""
    name = getattr(value, "__module__", "") or ""
    return name.removeprefix("lm_eval.tasks.").partition(".")[0] if name.startswith("lm_eval.tasks.") else ""


# --- folders of tasks ---


def task_folder(wanted: HarnessTask) -> Path:
    """The folder of a task on this machine, checked: what it brings is data. Raises StepError."""
    assert wanted.uri
    place = local_tree(wanted.uri, wanted.credentials_secret_ref, what=f"harness task {wanted.name}")
    files = [path for path in place.rglob("*") if path.is_file()]
    if len(files) > _MOST_FILES:
        raise _refused(wanted, f"has more than {_MOST_FILES:,} files", "name the folder of the task alone")
    for path in files:
        inside(path, wanted.uri)
        if path.suffix == ".py":
            raise _refused(
                wanted,
                f"has Python ({path.relative_to(place)}), which is not run",
                "name functions of the harness in the YAML, as !function lm_eval.tasks.<folder>.utils.<name>",
            )
    for path in files:
        if path.suffix in (".yaml", ".yml") or path.name.endswith("_yaml"):
            _check_yaml(wanted, place, path)
    return place


def _check_yaml(wanted: HarnessTask, place: Path, path: Path) -> None:
    """Raise StepError for a file that names code, or files elsewhere."""
    name = path.relative_to(place)
    try:
        root = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise unreadable(str(path), error) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _refused(wanted, f"{name} is no YAML: {_line(error)}", "repair it") from None
    for key, node in _nodes(root):
        if not isinstance(node, yaml.ScalarNode):
            continue
        if node.tag == "!function" and not _FUNCTION.fullmatch(node.value):
            raise _refused(
                wanted,
                f"{name} names the function {node.value}, which is not the harness's",
                "take one of lm_eval.tasks",
            )
        outside = "://" in node.value or Path(node.value).is_absolute() or ".." in Path(node.value).parts
        if key in ("include", "data_files", "data_dir") and outside:
            raise _refused(
                wanted, f"{name}: {key} {node.value} leads out of the folder", "name files of the folder"
            )


def _nodes(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All nodes of a document, each with the nearest of the keys above it that name files, else its own."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            here = str(name.value)
            yield from _nodes(value, key if key in ("include", "data_files", "data_dir") else here)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _nodes(value, key)
    elif node is not None:
        yield key, node


def _refused(wanted: HarnessTask, why: str, hint: str) -> StepError:
    return StepError(Exit.CONFIG, f"harness task {wanted.name}: {wanted.uri} {why}", hint)


# --- pins ---


def _data(task: Any) -> list[list[Any]]:
    """Hashes of a task's data by split, as the harness has loaded them."""
    splits = getattr(task, "dataset", None) or {}
    return [[name, len(rows), _rows(rows)] for name, rows in sorted(splits.items())]


def _rows(rows: Any) -> str:
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps(row, sort_keys=True, default=repr).encode())
    return found.hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
