"""`python -m cluster COMMAND`: what make's cluster targets call.

build [PROGRAM ...]   build what is missing, by default all programs of a cluster
packages              install what Debian's packages must bring, as root
base                  make the base of the operator's image
up                    start a node by hand; prints the line that points kubectl to it
load ARCHIVE          bring the images of an OCI or docker archive onto it
down                  end it
"""

import shutil
import sys
from pathlib import Path

from cluster.binaries import GROUPS, build, path

BY_HAND = 0
"""Number of the cluster that `up` starts; tests take the others."""


def main(command: str = "", *arguments: str) -> None:
    match command:
        case "build":
            asked = arguments or ("cluster",)
            build([name for given in asked for name in GROUPS.get(given, (given,))])
        case "packages":
            from cluster import debian

            debian.install()
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
    from cluster import node, sandbox

    running = sandbox.living(BY_HAND)
    folder = running.folder if running else node.up(BY_HAND, outlives_owner=True).folder
    print(f"export KUBECONFIG={folder / 'admin.kubeconfig'}")
    missing = [str(path(tool).parent) for tool in ("kubectl", "helm") if shutil.which(tool) is None]
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
