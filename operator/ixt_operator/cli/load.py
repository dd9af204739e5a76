"""Manifests for the verbs: one run, and the runtime it names. A problem ends the program with exit code 2."""

from importlib.metadata import version
from pathlib import Path

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.cli.stop import stop
from ixt_operator.manifests.loading import ManifestError, load
from ixt_operator.render.builtin_runtimes import BUILTIN


def run_of(file: Path) -> IXTRun:
    """The one IXTRun of a file."""
    runs = [found for found in _load(file) if isinstance(found, IXTRun)]
    if len(runs) != 1:
        named = f" ({', '.join(run.metadata.name for run in runs)})" if runs else ""
        stop(f"{file}: has {len(runs)} IXTRuns{named}, needs exactly one: give each run a file of its own")
    return runs[0]


def local_run_of(file: Path) -> IXTRun:
    """The one IXTRun of a file, which needs nothing that only a cluster has."""
    run = run_of(file)
    judge = run.spec.judge
    if judge and judge.rubric.config_map_key_ref:
        stop(f"{file}: spec.judge.rubric.configMapKeyRef needs a cluster: write the rubric out under inline")
    return run


def runtime_of(run: IXTRun, file: Path | None) -> IXTRuntime:
    """The runtime from a file, or the built-in one that the run names."""
    name = run.spec.runtime_ref.name
    if file is None:
        if name not in BUILTIN:
            stop(
                f"spec.runtimeRef.name: runtime {name} is not built in (there are {', '.join(BUILTIN)}): "
                "give its file with --runtime"
            )
        return BUILTIN[name](f"ixt-workloads-{name}:{version('ixt')}")
    found = {entry.metadata.name: entry for entry in _load(file) if isinstance(entry, IXTRuntime)}
    if not found:
        stop(f"{file}: has no IXTRuntime")
    if len(found) > 1 and name not in found:
        stop(f"{file}: has the runtimes {', '.join(found)}, but not {name}, which spec.runtimeRef.name names")
    return found.get(name) or next(iter(found.values()))


def _load(file: Path) -> tuple[IXTRun | IXTRuntime, ...]:
    try:
        return load(file)
    except ManifestError as error:
        stop(str(error))
