"""`python -m cluster COMMAND`: what make's cluster targets call.

build [PROGRAM ...]   build what is missing, by default all programs of a cluster
packages              install what Debian's packages must bring, as root
base                  make the base of the operator's image
up                    start a node by hand, with all that README's lines need (by_hand.py); prints the lines
                      that point a shell to it
load ARCHIVE          bring the images of an OCI or docker archive onto it
down                  end it
"""

import shutil
import sys
from pathlib import Path

from cluster.binaries import GROUPS, build, path

PLUGIN = Path(sys.prefix, "bin", "kubectl-ixt")
BY_HAND = 0
"""Number of the cluster that `up` starts; tests take the others."""


def main(command: str = "", *arguments: str) -> None:
    match command:
        case "build":
            asked = arguments or ("cluster",)
            build([name for given in asked for name in GROUPS.get(given, (given,))])
        case "packages":
            from cluster import debian

            debian.install(debian.CLUSTER)
        case "base":
            from cluster import operator_image

            operator_image.base()
        case "up":
            _up()
        case "load":
            _load(*arguments)
        case "down":
            from cluster import sandbox

            sandbox.sweep()
            print("ended" if sandbox.close_sandbox(BY_HAND) else "no cluster runs")
        case _:
            sys.exit(__doc__)


def _up() -> None:
    from cluster import by_hand, node, sandbox

    if (running := sandbox.living(BY_HAND)) is None:
        print("starting a node and installing the operator: two minutes", file=sys.stderr, flush=True)
        started = node.up(BY_HAND, outlives_owner=True)
        try:
            by_hand.furnish(started)
        except BaseException:
            started.down()
            raise
        running = started.sandbox
    folder = running.folder
    print(f"export KUBECONFIG={folder / 'admin.kubeconfig'}")
    tools = {"kubectl": path("kubectl"), "helm": path("helm"), "kubectl-ixt": PLUGIN}
    missing = [str(file.parent) for tool, file in tools.items() if shutil.which(tool) is None]
    if missing:
        print(f"export PATH={':'.join([*missing, '$PATH'])}")


def _load(archive: str = "") -> None:
    from cluster import node, sandbox

    if not Path(archive).is_file():
        sys.exit(f"no archive {archive or 'is named'}: make cluster-load IMAGE=FILE")
    running = sandbox.living(BY_HAND)
    if running is None:
        sys.exit("no cluster runs: make cluster-up")
    node.load_images(running, Path(archive).resolve())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RuntimeError as error:
        sys.exit(str(error))
