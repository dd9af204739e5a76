"""What ranks tell their launcher: progress, failures and the result, as files in a folder of theirs.

torch's launcher passes on exit codes only, and makes a 1 of those of ranks that fail later.
"""

import json
import os
import time
from pathlib import Path
from typing import TypeVar

from ixt_workloads import logs
from ixt_workloads.contract.exits import Exit, StepError, meaning_of
from ixt_workloads.contract.results import MAX_LOG_TAIL, Progress, Result

FOLDER = "IXT_TRAIN_EXCHANGE"
"""Variable that names the folder."""

Said = TypeVar("Said", Progress, Result)


def write(folder: Path, said: Progress | Result) -> None:
    """Replace what rank 0 said before: the latest progress, or the job's result."""
    _replace(folder / f"{type(said).__name__}.json", said.model_dump_json())


def read(folder: Path, kind: type[Said]) -> Said | None:
    """The latest progress or the job's result, if there is one yet."""
    path = folder / f"{kind.__name__}.json"
    return kind.model_validate_json(path.read_bytes()) if path.exists() else None


def write_error(folder: Path, rank: int, error: StepError) -> None:
    """Leave why a rank failed."""
    value = {
        "time": time.time(),
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "log": logs.tail(MAX_LOG_TAIL),
    }
    _replace(folder / f"error-{rank}.json", json.dumps(value))


def read_cause(folder: Path) -> StepError | None:
    """The failure that caused the others (see `Precedence`); its rank's last lines become the launcher's."""
    found = [json.loads(path.read_bytes()) for path in sorted(folder.glob("error-*.json"))]
    if not found:
        return None
    cause = min(found, key=lambda error: (meaning_of(error["code"]).precedence, error["time"]))
    logs.remember(cause["log"])
    return StepError(Exit(cause["code"]), cause["message"], cause["hint"])


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
