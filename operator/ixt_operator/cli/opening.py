"""What the arguments of verbs stand for: a run, its workdir, its status and the keys of its nodes."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from ixt_operator.adapters.local import workdir as local
from ixt_operator.adapters.local.workdir import LocalError
from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus
from ixt_operator.cli import load
from ixt_operator.cli.stop import stop
from ixt_operator.planner.history import Entry


def opened(file: Path, workdir: Path | None, settings: Sequence[str] = ()) -> tuple[IXTRun, Path]:
    """The run of a file, with the uid that its workdir gave it, and the workdir. The file may be the workdir,
    for the run as it was carried out last."""
    known = local.read_run(file) if file.is_dir() and not (workdir or settings) else None
    loaded = known or load.local_run_of(file, settings)
    folder = workdir or (file if known else local.workdir_of(loaded))
    # Read by the steps and by the programs that use the storage.
    os.environ.setdefault("IXT_PVC_ROOT", str((folder / "volumes").resolve()))
    try:
        return local.identified(loaded, folder), folder
    except LocalError as error:
        stop(str(error))


def carried_out(run: IXTRun, folder: Path) -> IXTRun:
    """The run as it was carried out last."""
    return local.read_run(folder) or run


def status_of(file: Path, folder: Path, workdir: Path | None) -> RunStatus:
    """The run's status as it is by now. One that was never carried out ends the program."""
    found = local.current_status(folder)
    if found is None:
        stop(f"{folder} has no run yet: start it with `{run_again(file, workdir)}`")
    return found


def done(file: Path, workdir: Path | None) -> tuple[IXTRun, dict[str, Entry], RunStatus]:
    """The run as it was carried out last, the newest key of each node, and the status. One that was never
    carried out ends the program."""
    loaded, folder = opened(file, workdir)
    status = status_of(file, folder, workdir)
    return carried_out(loaded, folder), local.newest_keys(folder), status


def run_again(
    file: Path, workdir: Path | None, runtime: Path | None = None, settings: Sequence[str] = ()
) -> str:
    """The `ixt run` command of these arguments, quoted for a shell."""
    options = [("-w", workdir), ("--runtime", runtime), *(("--set", text) for text in settings)]
    given = [text for name, value in options if value for text in (name, str(value))]
    return shlex.join(["ixt", "run", str(file), *given])
