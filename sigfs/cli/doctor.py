"""``sigfs doctor``: what is the matter with this machine or a project, and what repairs it."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final, TypeAlias

import click

from sigfs.api.project import Project, get_project
from sigfs.cli import diagnosis, diagnosis_project
from sigfs.cli.diagnosis import Finding
from sigfs.cli.exits import Exit, message_of
from sigfs.cli.output import print_json, print_text
from sigfs.cli.params import DirectoryPath
from sigfs.errors import SigfsError
from sigfs.mount.asking import ask_all

MARKS: Final = {"ok": "✔", "wrong": "✘", "warning": "!", "none": "-"}

LIMIT_S: Final = 5.0
"""How long the checks may take, all at once: what has not answered by then hangs."""

Check: TypeAlias = Callable[[], Finding | list[Finding]]


@click.command(
    "doctor",
    epilog="""\b
Examples:
  sigfs doctor
  sigfs doctor ~/project
  sigfs doctor --json | jq '.[] | select(.state != "ok")'
\b
Marks: ✔ as it should be, ✘ keeps projects from being mounted, ! less is possible, - of no importance here.""",
)
@click.argument("project_path", metavar="[PROJECT]", required=False, type=DirectoryPath())
@click.option(
    "--state-dir",
    metavar="DIR",
    type=DirectoryPath(),
    envvar="SIGFS_STATE_DIR",
    help="Where the index is kept, if not in the project.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of objects.")
def doctor_command(project_path: str | None, state_dir: str | None, as_json: bool) -> None:
    """Look at all that mounting a project needs, and say for each trouble which command repairs it.

    Exit code 1 if something keeps projects from being mounted. Nothing is changed.
    """
    findings = examine(project_path, state_dir)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print_text(f"{MARKS[finding.state]} {finding.check}: {finding.said}")
            if finding.remedy:
                print_text(f"    {finding.remedy}")
    if any(finding.state == "wrong" for finding in findings):
        click.get_current_context().exit(Exit.FAILURE)


def examine(project_path: str | None, state_dir: str | None = None, limit_s: float | None = None) -> list[Finding]:
    """Make all checks, each in a process of its own, so that a file system that hangs keeps nobody.

    Args:
        project_path: None: the project of the working directory, if there is one.
        limit_s: by default ``LIMIT_S``.
    """
    limit_s = LIMIT_S if limit_s is None else limit_s
    is_root = os.geteuid() == 0
    jobs = functools.partial(_count_jobs, project_path, limit_s / 2)
    checks: dict[str, Check] = {
        "version": diagnosis.version,
        "device": diagnosis.device,
        "fusermount3": lambda: diagnosis.helper(_helper_path(), is_root=is_root),
        "allow_other": functools.partial(diagnosis.allow_other, is_root=is_root),
        "kernel": diagnosis.kernel,
        "passthrough": diagnosis.passthrough,
        "user namespaces": functools.partial(diagnosis.user_namespaces, is_root=is_root),
        "AppArmor": functools.partial(diagnosis.apparmor, is_root=is_root),
        "inotify": lambda: diagnosis.inotify(jobs(), is_root=is_root),
        "open files": diagnosis.descriptors,
        "mounts": diagnosis.stale_mounts,
        "packages": diagnosis.packages,
        "updatedb": diagnosis.updatedb,
        "project": functools.partial(_project, project_path, state_dir),
    }
    answers = ask_all([functools.partial(_answer, check) for check in checks.values()], limit_s)
    where = {"project": f"{project_path or 'the working directory'}: "}
    return [
        finding
        for name, answer in zip(checks, answers, strict=True)
        for finding in _read(name, answer, limit_s, where.get(name, ""))
    ]


def _answer(check: Check, fd: int) -> None:
    """Make a check and write what was found: a line for each, so that those before one that hangs are known."""
    try:
        found = check()
    except Exception as error:  # noqa: BLE001 - one check that fails must not hide the others
        found = Finding("", "warning", f"cannot be found out: {message_of(error)}")
    for finding in found if isinstance(found, list) else [found]:
        _write(finding, fd)


def _write(finding: Finding, fd: int) -> None:
    os.write(fd, json.dumps(asdict(finding)).encode() + b"\n")


def _read(name: str, answer: bytes, limit_s: float, where: str = "") -> list[Finding]:
    found = [Finding(**json.loads(line)) for line in answer.splitlines()]
    if not found:
        state: diagnosis.State = "wrong" if name in ("project", "device") else "warning"
        return [Finding(name, state, f"{where}no answer within {limit_s:g} s: a file system hangs")]
    return [
        finding if finding.check else Finding(name, finding.state, finding.said, finding.remedy) for finding in found
    ]


def _helper_path() -> str | None:
    names = ("fusermount3", "fusermount")
    paths = (None, "/bin:/usr/bin:/usr/local/bin")
    return next(filter(None, (shutil.which(name, path=path) for name in names for path in paths)), None)


def _open(project_path: str | None) -> Project | None:
    """Open the project; None if none was named and the working directory is in none."""
    try:
        return get_project(project_path)
    except SigfsError:
        if project_path is not None:
            raise
        return None


def _count_jobs(project_path: str | None, limit_s: float) -> int | None:
    """Count the jobs of the project; None if there is none, or it hangs."""

    def count(fd: int) -> None:
        project = _open(project_path)
        if project is not None:
            os.write(fd, b"%d\n" % sum(1 for _ in project.workspace.ids()))

    (answer,) = ask_all([count], limit_s)
    return int(answer) if answer.endswith(b"\n") else None


def _project(project_path: str | None, state_dir: str | None) -> list[Finding]:
    try:
        project = _open(project_path)
    except SigfsError as error:
        return [Finding("project", "wrong", message_of(error), f"sigfs init {project_path}")]
    if project is None:
        return [Finding("project", "none", "the working directory is in none; name one: sigfs doctor PROJECT")]
    checks: Sequence[tuple[str, Check]] = (
        ("workspace", functools.partial(diagnosis_project.workspace, project)),
        ("file system", functools.partial(diagnosis_project.events, project)),
        ("clock", functools.partial(diagnosis_project.clock, project, state_dir)),
        ("index", functools.partial(diagnosis_project.store, project, state_dir)),
    )
    questions = [functools.partial(_answer, check) for _, check in checks]
    answers = ask_all(questions, LIMIT_S / 2)
    found = [Finding("project", "ok", project.root)]
    for (name, _), answer in zip(checks, answers, strict=True):
        for finding in _read(name, answer, LIMIT_S / 2):
            is_hung = not answer and name == "workspace"
            found.append(Finding(name, "wrong", finding.said) if is_hung else finding)
    return found
