"""Children: what a plan wants to run, described alike for Kubernetes and for this machine.

A child's name is deterministic and carries its attempt, so that creating it twice is impossible and a stale
read harmless. Its key and attempt alone decide whether it is current, never its contents.

Every process of a child finds these in its environment, whatever runs it:
    IXT_TASK      file with the task (JSON), if the child has one
    IXT_RESULT    file to write the result to (at most 4 kB)
    IXT_INDEX     its index, 0 ... indexes-1
    IXT_HOST      address to listen on; `::` for all addresses, of IPv4 as well
    IXT_PORT_<NAME>  a port for each of the child's named ports
    IXT_LEADER    "host:port" of index 0's port `rendezvous`, if the child has one
    IXT_PEERS     a name that has the addresses of all its pods that have one; not on this machine
    IXT_<NAME>_URLS  for each server in `servers`: comma-separated base URLs of its port `http`
    IXT_<NAME>_API_KEY  the key that this server asks for; itself it finds it as IXT_API_KEY
Arguments may name variables as $(NAME), as in a pod's command.
"""

from typing import Any

from pydantic import Field

from ixt_operator.api.runtime import MAIN
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
    api_keys: tuple[str, ...] = ()
    """Variables that get the run's own API key, which its servers ask their clients for. The platform draws
    it once for each run; it is in no manifest, task or log."""
    secrets: tuple[str, ...] = ()
    """Secrets whose entries all become variables; locally they are expected in the environment."""
    credentials: tuple[str, ...] = ()
    """Secrets of single places: their entries become variables, with `prefix_of` the Secret before the names;
    locally these are expected in the environment."""
    claims: dict[str, bool] = {}
    """Volume claims that pvc:// URIs name, mounted at $IXT_PVC_ROOT/<claim>; whether it may write there."""
    grace_seconds: int = 30
    """Seconds that a process has to stop before SIGKILL."""
    patches: tuple[dict[str, Any], ...] = ()
    """The run's strategic merge patches of its pods, each over those before; locally only the variables of
    the main container count."""
    resources: dict[str, Any] = {}
    """Kubernetes resource requirements of one process; not enforced locally."""
    avoid_hosts: tuple[str, ...] = ()
    """Machines that it must not run on (see hosts.py)."""

    @property
    def patched_env(self) -> dict[str, str]:
        """Variables that the patches give the main container as plain values."""
        found: dict[str, str] = {}
        for patch in self.patches:
            for container in patch.get("spec", {}).get("containers") or ():
                given = container.get("env") or () if container.get("name") == MAIN else ()
                found |= {entry["name"]: entry["value"] for entry in given if "value" in entry}
        return found
