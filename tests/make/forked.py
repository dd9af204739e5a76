"""A program of the zygote's, as a process: `python -I -S forked.py SOCKET NAME ARGUMENT…` (see zygote.py).

It has its place in the tree of processes, its environment, files and signals. The work is done by a process
that the zygote forks for it and that the kernel kills as soon as this one is gone. Every stub step pays for
what is imported here: modules of the interpreter itself only.
"""

import _signal
import _socket
import os
import sys


def main(socket: str, *arguments: str) -> None:
    """Pass everything on; end as the process that was forked ends."""
    held, _lifeline = os.pipe()
    environment = [name + b"=" + value for name, value in os.environb.items()]
    folder = os.getcwd()  # noqa: PTH109 - pathlib takes longer to import than all this
    words = [b"0", b"", str(len(arguments)).encode(), *map(os.fsencode, (folder, *arguments))]
    asked = b"\0".join([*words, *environment])
    files = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in (0, 1, 2, held))
    connection = _socket.socket(_socket.AF_UNIX)
    connection.connect(socket)
    connection.sendmsg(
        [len(asked).to_bytes(8, "big") + asked], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)]
    )
    pid = int.from_bytes(connection.recv(8), "big")

    def forward(number: int, _: object) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        _signal.signal(number, forward)
    code = int.from_bytes(connection.recv(8), "big", signed=True)
    if code >= 0:
        os._exit(code)
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    os.kill(os.getpid(), -code)


main(*sys.argv[1:])
