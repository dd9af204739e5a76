"""Entry point of `ixt`. Imports nothing that takes time."""

import gc
import os
import signal
import sys


def main() -> None:
    """Run the verb that the arguments name."""
    if sys.argv[1:] == ["--version"]:
        # Scripts ask for it: the verbs take some ten times as long to import.
        from importlib.metadata import version

        print(f"ixt {version('ixt')}")
        return
    # Ctrl-C ends a verb at once and silently. `ixt run` has a handler of its own, which stops the run.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    # Of what is imported nothing is garbage: to look for it less often saves a tenth of the start.
    gc.set_threshold(50_000)
    # pydantic would look for plugins among all packages that are installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

    from ixt_operator.cli.ixt import app

    app(prog_name="ixt")
