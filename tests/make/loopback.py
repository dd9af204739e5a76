"""Parts of loopback, for tests that run side by side and bind ports that are fixed."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def part() -> Iterator[int]:
    """A number N that nothing else has that asks here: 127.N.0.0/16 is free to use, and so are the ports that
    `port` tells."""
    for number in range(1, 255):
        with socket.socket() as taken:
            try:
                taken.bind((f"127.{number}.255.254", 1024))
            except OSError:
                continue
            yield number
            return
    raise OSError("every part of loopback is taken")


def port(part: int, number: int = 0) -> int:
    """A port of a part; outgoing connections get none of these."""
    return 20_000 + 16 * part + number
