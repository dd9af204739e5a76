"""kubectl against one cluster, in one namespace."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster import binaries


class KubectlError(AssertionError):
    """kubectl failed; the text is what it wrote to stderr."""


@dataclass(frozen=True)
class Kubectl:
    """`kubectl("get", "pods")` returns what it prints. Raises KubectlError."""

    kubeconfig: Path
    namespace: str = "default"

    def within(self, namespace: str) -> "Kubectl":
        """The same in another namespace."""
        return replace(self, namespace=namespace)

    def command(self, *arguments: str) -> list[str]:
        """The command line, for a test that runs it itself."""
        return [
            str(binaries.path("kubectl")),
            f"--kubeconfig={self.kubeconfig}",
            # Discovery of a former server on the same port must not be believed.
            f"--cache-dir={self.kubeconfig.parent / 'kubectl-cache'}",
            f"--namespace={self.namespace}",
            *arguments,
        ]

    def run(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Its exit code and both outputs."""
        direct = {name: os.environ[name] for name in os.environ if not name.lower().endswith("_proxy")}
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env=direct,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """What it prints with -o json."""
        return json.loads(self(*arguments, "-o", "json"))

    def ixt(self, *arguments: str, code: int = 0) -> str:
        """`kubectl ixt` as a user starts it; what it prints, or says of its failure."""
        kubectl, plugin = binaries.path("kubectl"), Path(sys.executable).with_name("kubectl-ixt")
        path = f"{kubectl.parent}:{plugin.parent}:/usr/bin:/bin"
        env = {"PATH": path, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.kubeconfig.parent)}
        command = [str(kubectl), "ixt", *arguments, "-n", self.namespace]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        assert done.returncode == code, (done.stderr, done.stdout)
        return done.stdout if code == 0 else done.stderr

    def apply(self, *manifests: Any) -> str:
        """Apply manifests given as values."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        return self("apply", "-f", "-", stdin=items)
