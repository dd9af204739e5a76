"""`ixt compare`: which runs are meant, and what their lanes are made of."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ixt_operator.adapters.local import workdir as local
from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus
from ixt_operator.cli import load
from ixt_operator.cli.artifacts import report_key
from ixt_operator.cli.stop import FAILED, stop
from ixt_operator.manifests.documents import yaml_documents
from ixt_operator.manifests.messages import nearest
from ixt_operator.manifests.problems import ManifestError, text_of
from ixt_operator.planner.nodes import stage_nodes
from ixt_operator.planner.spec import storage_uri
from ixt_workloads.contract.compared import ComparedRun
from ixt_workloads.contract.configs import ReportConfig
from ixt_workloads.contract.versions import read_known

RUNS = Path(".ixt")
"""Where runs have their workdirs unless told otherwise."""


def compared(places: list[str]) -> tuple[ComparedRun, ...]:
    """The runs at places, each under a name of its own. A place that is none ends the program."""
    found: dict[str, ComparedRun] = {}
    for place in places:
        run = _compared(place)
        number = sum(name == run.name or name.startswith(f"{run.name}#") for name in found)
        name = f"{run.name}#{number + 1}" if number else run.name
        found[name] = run.model_copy(update={"name": name})
    return tuple(found.values())


def _compared(place: str) -> ComparedRun:
    """A workdir, a file with a manifest or with what kubectl says of a run, or the name of a local run."""
    path = Path(place)
    if path.is_file():
        answer = _answer(path)
        if answer is not None:
            return _on_a_cluster(path, answer)
        run = load.local_run_of(path)
        return _local(run.metadata.name, RUNS / run.metadata.name)
    return _local(place, path if (path / "run.json").exists() else RUNS / place)


def _local(place: str, workdir: Path) -> ComparedRun:
    run = local.read_run(workdir) if workdir.is_dir() else None
    if run is None:
        known = sorted(path.parent.name for path in RUNS.glob("*/run.json"))
        there = nearest(place, known) or (f"; there are {', '.join(known)}" if known else "")
        stop(f"{place}: no run was carried out here under that name or in that workdir{there}")
    (*_, report) = stage_nodes(run, len(run.spec.stages) - 1)
    assert isinstance(report.config, ReportConfig)
    keys = {name: entry.key for name, entry in local.newest_keys(workdir).items()}
    return ComparedRun(
        name=run.metadata.name,
        storage=storage_uri(local.with_volumes(run, workdir)),
        lanes=report.config.lanes,
        keys=keys,
    )


def _answer(file: Path) -> dict[str, Any] | None:
    """What the API server says of a run, if a file has that and not only a manifest."""
    try:
        documents = [*yaml_documents(text_of(file))]
    except (yaml.YAMLError, ManifestError):
        return None  # who loads the manifest says what is wrong with it
    value = documents[0].value if len(documents) == 1 else None
    return value if isinstance(value, dict) and isinstance(value.get("status"), dict) else None


def _on_a_cluster(file: Path, answer: dict[str, Any]) -> ComparedRun:
    """A run as `kubectl get ixtrun NAME -o yaml` tells it: its report says what its lanes are made of."""
    try:
        run, status = IXTRun.without_status(answer), read_known(RunStatus, answer["status"])
    except ValidationError as error:
        stop(f"{file}: is no IXTRun as kubectl tells it: {error.errors()[0]['msg']}")
    key = report_key(status)
    if key is None:
        stop(f"{file}: run {run.metadata.name} has no report yet: it is {status.phase.value}", FAILED)
    return ComparedRun(name=run.metadata.name, storage=storage_uri(run), report=key)
