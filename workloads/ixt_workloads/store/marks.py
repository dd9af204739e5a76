"""What a run needs: runs/<uid>/<stage>.json, from which `gc` knows what it must keep."""

import json
from collections.abc import Iterable

from ixt_workloads.contract.graph import Keyed, Task
from ixt_workloads.store.base import Store


def mark(store: Store, task: Task, nodes: Iterable[Keyed]) -> None:
    """Say that a stage of the task's run needs the artifacts of its nodes and of earlier stages, and of those
    that it named before none but these.

    Written by Inventory before it looks for artifacts, so that none is swept between look and use. A file for
    each stage: what later stages named stays needed when the run goes no further this time.
    """
    known = task.probe.known if task.probe else {}
    keys = {*known.values(), *(node.key for node in nodes)}
    store.put(f"runs/{task.run_uid}/{task.stage}.json", json.dumps({"keys": sorted(keys)}).encode())
