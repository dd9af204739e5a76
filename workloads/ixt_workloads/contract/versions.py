"""Reads and writes documents between an operator and workloads of different versions (docs/versions.md).

A task that sets something unknown is refused. Of results and progress, what is known is read.
"""

import copy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ixt_workloads import __version__
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.foreign import gunzipped, json_of
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.kinds import KINDS

GZIP = b"\x1f\x8b"
"""Large tasks come compressed: a ConfigMap holds 1 MiB."""

MAX_TASK_BYTES = 16 * 2**20
"""Of a task when it is unpacked."""

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def write_task(task: Task) -> str:
    """A task as JSON. Defaults are left out, so that a version that lacks a field reads tasks without it."""
    signed = task.model_copy(update={"written_by": __version__})
    return signed.model_dump_json(exclude_defaults=True)


def read_task(content: bytes) -> Task:
    """A task that an operator, perhaps of another version, wrote. What it lacks has its default.

    Raises StepError: VERSION_SKEW for one that sets what this version does not know or asks for an artifact
    that its step does not make, USAGE for one that is no JSON.
    """
    document: Any = None
    try:
        document = json_of(
            gunzipped(content, MAX_TASK_BYTES) if content[:2] == GZIP else content, MAX_TASK_BYTES
        )
        task = Task.model_validate(document)
    except ValidationError as error:
        raise _skew(document, _setting(error.errors(include_url=False)[0])) from None
    except ValueError as error:
        raise StepError(Exit.USAGE, f"the task cannot be read: {error}") from None
    made = KINDS[task.kind].version
    wanted = task.probe.nodes[0].version if task.probe else task.preimage.get("version", made)
    if wanted != made:
        # Else an artifact that is not what the key says would be committed, and all runs would take it.
        raise _skew(document, f"the version of {task.kind} to {wanted}, not {made}")
    return task


def _setting(problem: ErrorDetails) -> str:
    """Name of the unknown field, in the step's config or the task; with its value if only that is unknown."""
    place = [str(part) for part in problem["loc"]]
    field = ".".join(place[place.index("config") + 1 :] if "config" in place[:-1] else place)
    match problem["type"]:
        case "extra_forbidden":
            return field
        case "missing":
            return f"no {field}"
    return f"{field} to {problem['input']!r:.80}"


def _skew(document: Any, setting: str) -> StepError:
    writer = document.get("writtenBy") if isinstance(document, dict) else None
    return StepError(
        Exit.VERSION_SKEW,
        f"this task was written by ixt {writer or '(unknown)'} and sets {setting}, which this image, "
        f"ixt {__version__}, does not know",
        "use an image of the operator's version",
    )


def read_known(model: type[AnyModel], document: Any) -> AnyModel:
    """What this version knows of a document, as JSON or parsed, that another version may have written.

    The rest is left out. Raises ValueError for what is no JSON, too long or too deep (`json_of`), or lacks a
    required field.
    """
    value = json_of(document) if isinstance(document, str | bytes) else copy.deepcopy(document)
    while True:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            unknown = dict.fromkeys(map(_unknown, error.errors(include_url=False)))
            if () in unknown:
                raise
            # All at once: a pod may send as many as it likes. The innermost and last go first, so that the
            # others stay where they are.
            inwards = sorted(unknown, key=len)
            for *path, last in reversed(inwards):
                place = value
                for part in path:
                    place = place[part]
                del place[last]


def _unknown(problem: ErrorDetails) -> tuple[int | str, ...]:
    """The place to delete: for an unknown key its entry, for an object that lacks a field the object."""
    of_parent = problem["type"] == "missing" or problem["loc"][-1:] == ("[key]",)
    return problem["loc"][:-1] if of_parent else problem["loc"]
