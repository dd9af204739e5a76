"""Manifests for the verbs: one run, and the runtime it names. A problem ends the program with exit code 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from ixt_operator.adapters.local.machine import gpus_here
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.cli.stop import stop
from ixt_operator.manifests.loading import load, merged
from ixt_operator.manifests.problems import ManifestError
from ixt_operator.render.builtin_runtimes import BUILTIN_RUNTIMES
from ixt_workloads.contract.settings import Precision

Found = TypeVar("Found")


def run_of(file: Path, settings: Sequence[str] = ()) -> IXTRun:
    """The one IXTRun of a file, with what is set in it."""
    runs = [found for found in _load(file, settings) if isinstance(found, IXTRun)]
    return _only(file, runs, [run.metadata.name for run in runs])


def merged_run_of(file: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """The manifest of that run: with what it extends and what is set in it."""
    try:
        runs = [found for found in merged(file, settings) if found["kind"] == "IXTRun"]
    except ManifestError as error:
        stop(str(error))
    return _only(file, runs, [run["metadata"]["name"] for run in runs])


def local_run_of(file: Path, settings: Sequence[str] = ()) -> IXTRun:
    """The one IXTRun of a file, which needs nothing that only a cluster has."""
    run = run_of(file, settings)
    if run.rubric_reference:
        stop(f"{file}: spec.judge.rubric.configMapKeyRef needs a cluster: write the rubric out under inline")
    return run


def runtime_of(run: IXTRun, file: Path | None) -> IXTRuntime:
    """The runtime from a file, or the built-in one that the run names."""
    name = run.spec.runtime_ref.name
    if file is None:
        if name not in BUILTIN_RUNTIMES:
            there = ", ".join(BUILTIN_RUNTIMES)
            stop(
                f"spec.runtimeRef.name: runtime {name} is not built in (there are {there}): "
                "give its file with --runtime"
            )
        from importlib.metadata import version

        return BUILTIN_RUNTIMES[name](f"ixt-workloads-{name}:{version('ixt')}")
    found = {entry.metadata.name: entry for entry in _load(file) if isinstance(entry, IXTRuntime)}
    if not found:
        stop(f"{file}: has no IXTRuntime")
    if len(found) > 1 and name not in found:
        stop(f"{file}: has the runtimes {', '.join(found)}, but not {name}, which spec.runtimeRef.name names")
    return found.get(name) or next(iter(found.values()))


def slow_here(run: IXTRun) -> str:
    """A warning of trainings in bfloat16 where there is no GPU; empty where there is one, or are none."""
    slow = [stage.name for stage in run.spec.stages if stage.train.precision is Precision.BF16]
    if gpus_here() or not slow:
        return ""
    return (
        "warning: this machine has no GPU, and many processors train in BF16 several times slower than in "
        "FP32: set train.precision to FP32 in "
        f"{', '.join(slow)} (--set stages.{slow[0]}.train.precision=FP32)"
    )


def _only(file: Path, runs: Sequence[Found], names: Sequence[str]) -> Found:
    """The one of the runs of a file, which have these names."""
    if len(runs) != 1:
        named = f" ({', '.join(names)})" if names else ""
        stop(f"{file}: has {len(runs)} IXTRuns{named}, needs exactly one: give each run a file of its own")
    return runs[0]


def _load(file: Path, settings: Sequence[str] = ()) -> tuple[IXTRun | IXTRuntime, ...]:
    try:
        return load(file, settings=settings)
    except ManifestError as error:
        stop(str(error))
