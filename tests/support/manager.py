"""A service manager's end of sd_notify(3)."""

from __future__ import annotations

import select
import socket


class Manager:
    """A socket as systemd's; ``address`` is what it would put into NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def next(self) -> list[str]:
        """Give the lines of the next message.

        Raises:
            TimeoutError: none came within a minute.
        """
        if not select.select([self._socket], [], [], 60)[0]:
            raise TimeoutError("no message to the service manager")
        return self._socket.recv(65536).decode().split("\n")

    def until(self, line: str) -> list[list[str]]:
        """Give all messages up to the first that has *line*."""
        messages = [self.next()]
        while line not in messages[-1]:
            messages.append(self.next())
        return messages

    def hears_nothing(self) -> bool:
        """Whether no message waits."""
        return not select.select([self._socket], [], [], 0)[0]

    def close(self) -> None:
        self._socket.close()
