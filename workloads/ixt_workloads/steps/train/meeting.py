"""How the pods of a training find each other.

The first of them may be scheduled hours before the last. They wait for that without end: what keeps a pod
from being scheduled is the operator's to tell, and to give up (schedulingTimeoutSeconds). Once all have
addresses, they meet within RENDEZVOUS_SECONDS.
"""

import os
import socket
import time
from collections import Counter

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.results import Progress
from ixt_workloads.frame import Step

RENDEZVOUS_SECONDS = 1800
"""How long pods wait for each other once all have addresses: they may still pull their images."""

LOOK_SECONDS = 1.0


def leader(step: Step) -> str:
    """host:port at which the pods meet, once all of them have addresses. Raises StepError when none has: a
    headless Service takes a while to know a pod, but it knows this one soon."""
    found = os.environ.get("IXT_LEADER")
    if not found:
        if step.task.indexes > 1:
            raise StepError(Exit.USAGE, "IXT_LEADER is not set", "it names host:port of index 0")
        with socket.create_server(("127.0.0.1", 0)) as free:
            return f"127.0.0.1:{free.getsockname()[1]}"
    if peers := os.environ.get("IXT_PEERS"):
        _wait_for(step, peers, step.task.indexes)
    _wait_for(step, found.rpartition(":")[0].strip("[]"), 1)
    return found


def _wait_for(step: Step, host: str, wanted: int) -> None:
    """Wait until a name has so many addresses."""
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    while (there := _addresses(host)) < wanted:
        if there:
            missing = f"waits for {wanted - there} of its {wanted} pods to be scheduled"
            step.reporter.relay(Progress(message=missing))
        elif time.monotonic() > deadline:
            raise StepError(
                Exit.UNAVAILABLE,
                f"{host}, by which the pods of {step.task.node} meet, does not resolve",
                "see whether cluster DNS works, and whether the pod of index 0 runs",
            )
        time.sleep(LOOK_SECONDS)


def _addresses(host: str) -> int:
    """Addresses of a name, of the family that has most: on a dual-stack cluster a pod has one of each."""
    try:
        found = {(info[0], info[4][0]) for info in socket.getaddrinfo(host, None)}
    except socket.gaierror:
        return 0
    return max(Counter(family for family, _ in found).values(), default=0)
