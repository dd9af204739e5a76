"""Entry point of `ixt`. Imports nothing that takes time."""

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

    from ixt_operator.cli.ixt import app

    app(prog_name="ixt")
