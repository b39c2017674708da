"""``sigfs demo``: the whole thing in a scratch directory, as a shell session with its real output."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import types
from typing import Final

import click

import sigfs
from sigfs.cli.app import say
from sigfs.cli.exits import Exit
from sigfs.errors import SigfsError
from sigfs.transports.mounts import FS_TYPE, mounted, unmount

_STEP_S: Final = 60.0
"""No command of the session takes longer on any machine; a hung one ends the demo."""

# What a shell must know to run this very installation, wherever it is.
_PRELUDE: Final = 'sigfs() { "$SIGFS_DEMO_PYTHON" -m sigfs "$@"; }\n'

_PREPARE: Final = """
for chainlength in 8 11 17; do
  for group in methyl hydroxyl; do
    job=$(sigfs job -p project chainlength=$chainlength group=$group seed=1 --path)
    awk -v n=$chainlength 'BEGIN { for (i = 1; i <= 3; i++) print i * 0.5, n / (i + 1) }' > "$job/friction.txt"
  done
done
"""

# (what it shows, command). A command that starts with "!" waits until it succeeds.
_SESSION: Final[tuple[tuple[str, str], ...]] = (
    ("Six jobs lie in hashed directories:", "ls project/workspace"),
    ("Mounted, their parameters are directories:", "sigfs mount project mnt"),
    ("", "find mnt -name friction.txt"),
    ("Keys may come in any order, and with operators:", "ls mnt/chainlength@gt/8/group/methyl/chainlength"),
    (
        "Copying is copying:",
        "mkdir figures && cp -r mnt/group/methyl/chainlength figures/ && find figures -name '*.txt'",
    ),
    (
        "What is written through the mount is in the job's own directory:",
        "echo converged > mnt/group/methyl/chainlength/11/note.txt",
    ),
    ("", "cat $(sigfs find -p project group methyl chainlength 11 --path)/note.txt"),
    ("And the other way round:", "echo 0.42 > $(sigfs find -p project group hydroxyl chainlength 8 --path)/result.txt"),
    ("", "cat mnt/group/hydroxyl/chainlength/8/result.txt"),
    ("A job that appears while mounted is there at once:", "sigfs job -p project chainlength=20 group=methyl seed=1"),
    ("", "!ls -d mnt/group/methyl/chainlength/20"),
    ("Done:", "sigfs umount mnt"),
)


@click.command(
    "demo",
    epilog="""\b
Example:
  sigfs demo
Needs FUSE, as every mount does; exit code 6 says that it cannot be used here.""",
)
@click.option("--keep", is_flag=True, help="Leave the project behind and say where.")
def demo_command(keep: bool) -> None:
    """Make a small project, mount it, use it, unmount it, and show every command.

    All happens in a temporary directory, which is removed at the end.
    """
    place = os.path.realpath(tempfile.mkdtemp(prefix="sigfs-demo-"))
    try:
        with _interruptible():
            code = _play(place)
    finally:
        cleared = _unmounted(os.path.join(place, "mnt"))
        if cleared and not keep:
            shutil.rmtree(place, ignore_errors=True)
    if code == Exit.OK:
        if keep:
            click.echo(
                f"\nThe project is {place}/project; mount it again with: sigfs mount {place}/project {place}/mnt"
            )
        click.echo("\nNext, with a project of yours:  sigfs mount PROJECT MNT")
        click.echo("Or begin one:                   sigfs init DIR; cd DIR; sigfs job foo=42")
    click.get_current_context().exit(code)


def _play(place: str) -> int:
    """Run the session; give the exit code of the first command that fails."""
    click.echo(f"In {place}:")
    for setup in ("mkdir mnt; sigfs init project >/dev/null 2>&1", _PREPARE):
        _shell(setup, place)
    for remark, command in _SESSION:
        if remark:
            click.echo(f"\n# {remark}")
        click.echo(f"$ {command.removeprefix('!')}")
        sys.stdout.flush()
        script = command
        if command.startswith("!"):
            command = command.removeprefix("!")
            script = f"for i in $(seq 100); do {command} >/dev/null 2>&1 && break; sleep 0.1; done; {command}"
        code = _shell(script, place)
        if code != 0:
            say(f"the demo ends here: {command!r} failed with exit code {code}")
            return code
    return Exit.OK


def _shell(script: str, place: str) -> int:
    root = os.path.dirname(os.path.dirname(os.path.abspath(sigfs.__file__)))
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "SIGFS_DEMO_PYTHON": sys.executable, "PYTHONPATH": path}
    try:
        result = subprocess.run(
            ["sh", "-c", _PRELUDE + script],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=_STEP_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say(f"no end after {_STEP_S:g} s")
        return Exit.FAILURE
    return result.returncode if result.returncode >= 0 else Exit.FAILURE


def _unmounted(mountpoint: str) -> bool:
    """See that nothing stays mounted, whatever happened; tell whether that is so."""
    for lazy in (False, True):
        mount = mounted(mountpoint)
        if mount is None or mount.type != FS_TYPE:
            return True
        with contextlib.suppress(SigfsError):
            unmount(mountpoint, lazy)
    return mounted(mountpoint) is None


class _interruptible(contextlib.AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Within, SIGTERM and SIGHUP clean up as Ctrl-C does."""

    def __enter__(self) -> None:
        def interrupt(_number: int, _frame: types.FrameType | None) -> None:
            raise KeyboardInterrupt

        self._before = [(number, signal.signal(number, interrupt)) for number in (signal.SIGTERM, signal.SIGHUP)]

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
