"""Entry point of `ixt`. Imports nothing that takes time."""

import signal


def main() -> None:
    """Run the verb that the arguments name."""
    # Ctrl-C ends a verb that has nothing to put in order without a word. `ixt run` hears it from its start.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from ixt_operator.cli.app import app

    app(prog_name="ixt")
