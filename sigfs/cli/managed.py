"""The service manager that has started this command, if one has."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from sigfs.mount.notifying import ServiceManager


def service_manager(environment: MutableMapping[str, str]) -> ServiceManager:
    """Take out of *environment* what systemd has put there, so that no program started from here has it too.

    >>> service_manager({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "60000000"}).watchdog_s
    60.0
    >>> service_manager({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}).watchdog_s
    0.0
    >>> service_manager({}).listens
    False
    """
    address = environment.pop("NOTIFY_SOCKET", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    is_ours = environment.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
    return ServiceManager(
        address if address[:1] in ("/", "@") else None,
        int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else 0.0,
    )
