"""A server that tells what it holds: ``python -m tests.support.counting TRANSPORT PROJECT MNT``.

For each line on standard input it checks its books and prints ``Operations.statistics`` as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from sigfs.index import Index
from sigfs.model.workspace import Workspace
from sigfs.transports.base import MountSpec, load
from sigfs.tree import Tree
from sigfs.vfs.operations import Operations


def main(name: str, project: str, mountpoint: str) -> None:
    workspace = Workspace(os.path.join(project, "workspace"))
    index = Index()
    index.apply(list(workspace.scan()))
    operations = Operations(Tree(), index, workspace)
    transport = load(name)(MountSpec(mountpoint, project))
    operations.attach(transport.notifier, transport.can_notify)

    def answer() -> None:
        for _ in sys.stdin:
            operations.check()
            print(json.dumps(operations.statistics()), flush=True)

    transport.mount()
    threading.Thread(target=answer, daemon=True).start()
    try:
        transport.serve(operations)
    finally:
        transport.close()
        operations.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
