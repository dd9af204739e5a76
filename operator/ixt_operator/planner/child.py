"""Children: what a plan wants to run, described alike for Kubernetes and for this machine.

A child's name is deterministic and carries its attempt, so that creating it twice is impossible and a stale
read harmless. Its key and attempt alone decide whether it is current, never its contents.

Every process of a child finds these in its environment, whatever runs it:
    IXT_TASK      file with the task (JSON), if the child has one
    IXT_RESULT    file to write the result to (at most 4 kB)
    IXT_INDEX     its index, 0 ... indexes-1
    IXT_HOST      address to listen on
    IXT_PORT_<NAME>  a port for each of the child's named ports
    IXT_LEADER    "host:port" of index 0's port `rendezvous`, if the child has one
    IXT_<NAME>_URLS  for each server in `servers`: comma-separated base URLs of its port `http`
Arguments may name variables as $(NAME), as in a pod's command.
"""

from typing import Any

from pydantic import Field

from ixt_workloads.contract.graph import OfNode, Task
from ixt_workloads.contract.kinds import Role


class Child(OfNode):
    """A group of equal processes. Those of a server run until it is deleted and start anew when they end: a
    Deployment with a headless Service. Others run to their end, once: an Indexed Job with backoffLimit 0."""

    name: str = Field(max_length=52)
    role: Role
    key: str
    attempt: int
    argv: tuple[str, ...]
    task: Task | None = None
    indexes: int = 1
    """Processes: replicas of a server, completions of a Job."""
    ports: dict[str, int] = {}
    """Named ports with the number they have in a pod; locally a free one is taken."""
    ready_path: str | None = None
    """Server: HTTP path on port `http` that answers 200 when ready."""
    ready_seconds: int = 600
    """Server: a process that is not ready after this long is given up."""
    drain: tuple[str, ...] = ()
    """Server: a command that is run before a process is told to stop, within grace_seconds. Locally it is not
    run: a server's clients are stopped with it."""
    servers: dict[str, str] = {}
    """Variable name to the name of a server's child that this one talks to."""
    env: dict[str, str] = {}
    secret_env: dict[str, tuple[str, str]] = {}
    """Variable name to (secret, key); locally taken from the variable of the same name."""
    secrets: tuple[str, ...] = ()
    """Secrets whose entries all become variables; locally they are expected in the environment."""
    credentials: tuple[str, ...] = ()
    """Secrets of single places: their entries become variables, with `prefix_of` the Secret before the names;
    locally these are expected in the environment."""
    claims: tuple[str, ...] = ()
    """Volume claims that pvc:// URIs name, mounted at $IXT_PVC_ROOT/<claim>."""
    grace_seconds: int = 30
    """Seconds that a process has to stop before SIGKILL."""
    overrides: dict[str, Any] = {}
    """The run's pod overrides for the role, applied by the renderer."""
    resources: dict[str, Any] = {}
    """Kubernetes resource requirements of one process; not enforced locally."""
    avoid_hosts: tuple[str, ...] = ()
    """Machines that it must not run on (see `bad_hosts` in retry.py)."""
