"""Workdirs of runs that were carried out, as far as verbs look at them: the run and its keys."""

import json
from collections.abc import Mapping
from pathlib import Path

from ixt_operator.adapters.local import workdir as local
from ixt_operator.api.run import IXTRun
from ixt_operator.planner.history import Entry

from . import runs


def carried_out(workdir: Path, storage: str, keys: Mapping[str, str], name: str = "test") -> IXTRun:
    """A run of the arms next-token and conditioned, whose nodes have these keys."""
    run = IXTRun.model_validate(
        runs.manifest(
            name=name,
            storage={"uri": storage},
            arms=[runs.arm("next-token", "NextToken"), runs.arm("conditioned")],
        )
    )
    workdir.mkdir(parents=True)
    local.write_run(workdir, run)
    entries = [Entry(node, key, {}) for node, key in keys.items()]
    (workdir / "keys.jsonl").write_text("".join(json.dumps(each._asdict()) + "\n" for each in entries))
    return run
