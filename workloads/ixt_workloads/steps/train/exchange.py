"""What ranks tell their launcher: progress, failures and the result, as files in a folder of theirs.

torch's launcher passes on exit codes only, and makes a 1 of those of ranks that fail later.
"""

import json
import os
import time
from pathlib import Path

from ixt_workloads.contract.exits import Exit, StepError, meaning_of, precedence
from ixt_workloads.contract.results import Progress, Result

FOLDER = "IXT_TRAIN_EXCHANGE"
"""Variable that names the folder."""


def write_progress(folder: Path, progress: Progress) -> None:
    """Replace the latest progress."""
    _replace(folder / "progress.json", progress.model_dump_json())


def read_progress(folder: Path) -> Progress | None:
    """The latest progress, if any."""
    path = folder / "progress.json"
    return Progress.model_validate_json(path.read_bytes()) if path.exists() else None


def write_result(folder: Path, result: Result) -> None:
    """Leave the job's result; rank 0 does."""
    _replace(folder / "result.json", result.model_dump_json())


def read_result(folder: Path) -> Result | None:
    """The job's result, if it is done."""
    path = folder / "result.json"
    return Result.model_validate_json(path.read_bytes()) if path.exists() else None


def write_error(folder: Path, rank: int, error: StepError) -> None:
    """Leave why a rank failed."""
    value = {"time": time.time(), "code": error.code, "message": error.message, "hint": error.hint}
    _replace(folder / f"error-{rank}.json", json.dumps(value))


def read_cause(folder: Path) -> StepError | None:
    """The failure that caused the others (see `precedence`)."""
    found = [json.loads(path.read_bytes()) for path in sorted(folder.glob("error-*.json"))]
    if not found:
        return None
    cause = min(found, key=lambda error: precedence(meaning_of(error["code"]), error["time"]))
    return StepError(Exit(cause["code"]), cause["message"], cause["hint"])


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
