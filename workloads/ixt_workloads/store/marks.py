"""Which artifacts a run needs: runs/<uid>/<stage>.json, from which `gc` knows what it must keep."""

import json
from collections.abc import Iterable

from ixt_workloads.contract.graph import Keyed, Task
from ixt_workloads.store.base import Store


def mark(store: Store, task: Task, nodes: Iterable[Keyed]) -> None:
    """Write that a stage of the task's run needs the artifacts of its nodes and of earlier stages, no others.

    Inventory does so before it looks for artifacts, so that none is deleted before it is used. Each stage has
    a file: what later stages need is kept even if the run fails before it reaches them this time.
    """
    known = task.probe.known if task.probe else {}
    keys = {*known.values(), *(node.key for node in nodes)}
    store.put(f"runs/{task.run_uid}/{task.stage}.json", json.dumps({"keys": sorted(keys)}).encode())
