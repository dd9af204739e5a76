"""Entry point of `ixt`. Imports nothing that takes time."""

import signal


def main() -> None:
    """Run the verb that the arguments name."""
    # Ctrl-C ends a verb at once and silently. `ixt run` has a handler of its own, which stops the run.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from ixt_operator.cli.app import app

    app(prog_name="ixt")
