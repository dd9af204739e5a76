"""Where servers of a process listen: in a pod on IPv6 and IPv4 alike, whichever its cluster has."""

import os
import socket
from http.server import ThreadingHTTPServer

EVERYWHERE = "::"
"""All addresses of both families."""


def host() -> str:
    """The address to listen on, $IXT_HOST. `::` stands for both families; where there is no IPv6 it is
    0.0.0.0."""
    given = os.environ.get("IXT_HOST", "127.0.0.1")
    return "0.0.0.0" if given == EVERYWHERE and not socket.has_dualstack_ipv6() else given  # noqa: S104


class Server(ThreadingHTTPServer):
    """A server in threads. Raises OSError when its address cannot be had."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Bind to both families, for `::`. Else some systems take IPv6 alone."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
