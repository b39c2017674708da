"""The sidecar: what all jobs say, in one file of plain text beside them, from which they can be restored.

Owned here: its format (``lines``), how it is written by many at once (``file``), which jobs it is about (``jobs``), how
it follows them (``updating``, ``keeper``, ``noting``), and fingerprints of their data (``integrity``). It is no index:
nothing asks it but what mends a project. Job directories are the truth as long as they are whole; where one is not, the
id of a job proves a state point that is kept here, so that it need not be believed.
"""

from sigfs.sidecar.file import SidecarFile
from sigfs.sidecar.jobs import Sidecar
from sigfs.sidecar.lines import Contents

__all__ = ["Contents", "Sidecar", "SidecarFile"]
