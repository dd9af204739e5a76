"""What this machine has, and what a child gets of it: its GPUs for what can use them, and its processors."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from ixt_operator.planner.child import Child
from ixt_workloads.contract.kinds import KINDS


def held(child: Child) -> dict[str, Any]:
    """What each process of a child holds, as fields of ProcessState. Its processes share the processors."""
    row = KINDS.get(child.kind)
    computes = child.server or (row is not None and row.holds_devices)
    return {"gpus": _gpus(child) if computes else 0, "cpus": len(os.sched_getaffinity(0)) / child.indexes}


def _gpus(child: Child) -> int:
    """GPUs that a process sees: those that CUDA_VISIBLE_DEVICES names up to the first that is none, as CUDA
    reads it, else all."""
    visible = (os.environ | child.patched_env).get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus_here()
    named = [name.strip() for name in visible.split(",")]
    return next((place for place, name in enumerate(named) if name in ("", "-1")), len(named))


@cache
def gpus_here() -> int:
    """GPUs of NVIDIA's that this machine has."""
    return sum(1 for file in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia[0-9]+", file.name))
