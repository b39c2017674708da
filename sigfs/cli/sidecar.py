"""``sigfs sidecar`` and ``sigfs verify``: what is kept of the jobs in plain text, and what their data were."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import click

from sigfs.api.job import Job
from sigfs.api.progress import progress_bar
from sigfs.api.project import Project, get_project
from sigfs.cli.app import say
from sigfs.cli.choosing import (
    JobWord,
    QueryCommand,
    dry_run_option,
    jobs_of,
    json_option,
    project_option,
)
from sigfs.cli.exits import Exit
from sigfs.cli.output import Column, print_json, print_rows
from sigfs.errors import AmbiguousId, NoSuchJob
from sigfs.model.types import JobId, Json
from sigfs.query import parse_text
from sigfs.sidecar import Sidecar
from sigfs.sidecar.integrity import hash_data, verify
from sigfs.sidecar.lines import SidecarRecord, encode
from sigfs.sidecar.updating import disagreements, listed, require, update

_SHOWN: Final = 5

_GROUP: Final = 256
"""Jobs whose fingerprints are written together."""


@click.group(
    "sidecar",
    epilog="""\b
Examples:
  sigfs sidecar update                make it, or bring it up to date
  sigfs sidecar update --data         with fingerprints of all data files, for sigfs verify
  sigfs sidecar verify && echo all is in it
  sigfs sidecar show 0300
sigfs repair restores jobs from it; sigfs mount and all commands keep it up to date.""",
)
def sidecar_command() -> None:
    """Keep what all jobs say in one plain file, .sigfs/sidecar/jobs.jsonl."""


# update


@sidecar_command.command(
    "update",
    epilog="""\b
Examples:
  sigfs sidecar update
  sigfs sidecar update --data         reads data files that are new, or have another size or time
  sigfs sidecar update --dry-run --json""",
)
@click.option("--data", "with_data", is_flag=True, help="Fingerprints of the data files too.")
@click.option("--forget", is_flag=True, help="Forget the jobs also if the workspace is missing or empty.")
@dry_run_option
@json_option
@project_option
def update_command(with_data: bool, forget: bool, dry_run: bool, as_json: bool, project_path: str | None) -> None:
    """Have the sidecar say what the job directories do.

    A job that cannot be read takes nothing away from what is known of it. Of jobs that are gone, and of documents that
    have been removed, it forgets what it knew; not so if the workspace is missing or empty, as that may be a disk that
    is not mounted.
    """
    sidecar = get_project(project_path).sidecar
    with progress_bar("looking at jobs") as progress:
        done = update(sidecar, dry_run=dry_run, forget_all=forget, progress=progress)
    hashed: list[str] = []
    failed: dict[str, str] = {}
    if with_data and not dry_run:
        hashed, failed = _hash(sidecar)
    said: dict[str, Json] = {name: getattr(done, name) for name in ("jobs", "added", "changed", "gone", "unreadable")}
    if as_json:
        print_json({"path": sidecar.file.path, **said, "data": hashed, "failed": failed, "dry_run": dry_run})
    else:
        counts = {"added": len(done.added), "changed": len(done.changed), "gone": len(done.gone)}
        if with_data:
            counts["data"] = len(hashed)
        click.echo(", ".join(f"{count} {what}" for what, count in counts.items()))
    for job_id, why in islice(done.unreadable.items(), _SHOWN):
        say(f"{job_id}: {why}; what is known of it is kept: see sigfs check")
    if len(done.unreadable) > _SHOWN:
        say(f"and {len(done.unreadable) - _SHOWN} more cannot be read")
    for job_id, why in failed.items():
        say(f"{job_id}: {why}; its data have no fingerprints")
    if done.unsure:
        say(
            f"{done.unsure} jobs are not there and stay in the sidecar, as they may be on a disk that is not mounted; "
            "--forget takes them out"
        )
    if failed:
        click.get_current_context().exit(Exit.FAILURE)


def _hash(sidecar: Sidecar) -> tuple[list[str], dict[str, str]]:
    """Write fingerprints of data that are new; the ids of their jobs, and why others have none."""
    jobs = sidecar.file.read().jobs
    keys = [key for key in listed(sidecar).keys if sidecar.places.id_of(key) in jobs]
    hashed: list[str] = []
    failed: dict[str, str] = {}
    lines: list[bytes] = []
    with progress_bar("reading data") as progress:
        for job_id, data, why in hash_data(sidecar, keys, jobs, progress):
            if data is None:
                failed[job_id] = why
                continue
            hashed.append(job_id)
            lines.append(encode({"id": job_id, "data": data}))
            if len(lines) >= _GROUP:
                sidecar.file.append(lines)
                lines.clear()
    if lines:
        sidecar.file.append(lines)
    return hashed, failed


# verify


@sidecar_command.command(
    "verify",
    epilog="""\b
Examples:
  sigfs sidecar verify
  sigfs sidecar verify --json | jq -r '.jobs[].id'
Exit code 1 if the sidecar does not say what the job directories do, or has broken lines.""",
)
@json_option
@project_option
@click.pass_context
def verify_sidecar_command(context: click.Context, as_json: bool, project_path: str | None) -> None:
    """See that the sidecar says what the job directories do, and that all its lines can be read."""
    sidecar = get_project(project_path).sidecar
    require(sidecar)
    contents = sidecar.file.read()
    with progress_bar("reading jobs") as progress:
        found = list(disagreements(sidecar, contents.jobs, progress))
    if as_json:
        print_json(
            {
                "path": sidecar.file.path,
                "jobs": [each._asdict() for each in found],
                "broken": [{"line": number, "why": why} for number, why in contents.broken],
                "torn": contents.torn,
            }
        )
    elif found:
        print_rows([Column("id"), Column("what"), Column("why")], [[each.id, each.what, each.why] for each in found])
    for number, why in contents.broken[:_SHOWN]:
        say(f"{sidecar.file.path}, line {number}: {why}")
    if contents.torn:
        say(f"the last line of {sidecar.file.path} was not written to its end, and does not count")
    if found or contents.broken:
        what = [f"{len(found)} jobs are not as the sidecar says"] if found else []
        what += [f"{len(contents.broken)} of its lines are broken"] if contents.broken else []
        say(
            f"{' and '.join(what)}; sigfs sidecar update brings it up to date, sigfs check tells which jobs are damaged"
        )
        context.exit(Exit.FAILURE)
    say(f"{sidecar.file.path} agrees with {len(contents.jobs)} jobs")


# show


@sidecar_command.command(
    "show",
    epilog="""\b
Examples:
  sigfs sidecar show
  sigfs sidecar show 0300 --json
  sigfs sidecar show --json | jq -r '.[] | select(.doc.status == "done") | .path'
The file itself is text, too: see docs/sidecar.md.""",
)
@click.argument("words", metavar="[ID]...", nargs=-1, type=JobWord())
@json_option
@project_option
def show_command(words: tuple[str, ...], as_json: bool, project_path: str | None) -> None:
    """Print what the sidecar has of jobs, whether they are there or not."""
    sidecar = get_project(project_path).sidecar
    require(sidecar)
    jobs = sidecar.file.read().jobs
    records = (
        [jobs[job_id] for job_id in dict.fromkeys(_known(jobs, word) for word in words)] if words else jobs.values()
    )
    if as_json:
        print_json(list(records))
        return
    rows = [[str(each.get("id")), _text(each.get("sp")), _text(each.get("doc")), _data_text(each)] for each in records]
    print_rows([Column("id"), Column("state point"), Column("document"), Column("data")], rows)


def _text(value: Json) -> str:
    return encode({"": value})[5:-2].decode("ascii") if value is not None else ""


def _data_text(record: SidecarRecord) -> str:
    data = record.get("data")
    return f"{sum(isinstance(said, list) for said in data.values())} files" if isinstance(data, dict) else ""


def _known(jobs: Mapping[str, Any], word: str) -> str:
    """The id that the sidecar has of *word*, which may be abbreviated."""
    if word in jobs:
        return word
    found = [job_id for job_id in jobs if job_id.startswith(word)] if word else []
    if len(found) > 1:
        raise AmbiguousId(f"{len(found)} jobs of the sidecar begin with {word!r}: {', '.join(found[:_SHOWN])}")
    if not found:
        raise NoSuchJob(f"the sidecar has no job {word!r}")
    return found[0]


# verify the data


@click.command(
    "verify",
    cls=QueryCommand,
    epilog="""\b
Examples:
  sigfs sidecar update --data         first: note what the data are
  sigfs verify                        later: are they still?
  sigfs verify 0300
  sigfs verify foo 42
  sigfs verify --json | jq -r '.findings[] | select(.what == "changed") | .path'
Exit code 1 if a file has changed, is missing, or was added, or if nothing is known of any.""",
)
@click.argument("words", metavar="[ID... | QUERY]", nargs=-1, type=JobWord())
@click.option("-f", "--filter", "filter_text", metavar="QUERY", help="The jobs that QUERY holds for.")
@json_option
@project_option
@click.pass_context
def verify_command(
    context: click.Context, words: tuple[str, ...], filter_text: str | None, as_json: bool, project_path: str | None
) -> None:
    """Read data files again and see whether they are what the sidecar says; by default of all jobs.

    Compared are kind and content of files, and where links lead; permissions and times are not. State points and
    documents are for sigfs check and sigfs sidecar verify.
    """
    project = get_project(project_path)
    sidecar = project.sidecar
    require(sidecar)
    if words and filter_text is not None:
        raise click.UsageError("--filter and a query, or an id, exclude each other", context)
    jobs = sidecar.file.read().jobs
    keys = _keys(project, sidecar, jobs, words, filter_text)
    with progress_bar("reading data") as progress:
        result = verify(sidecar, keys, jobs, progress)
    if as_json:
        findings = [each._asdict() for each in result.findings]
        print_json(
            {
                "jobs": result.jobs,
                "files": result.files,
                "bytes": result.size_bytes,
                "findings": findings,
                "unhashed": result.unhashed,
            }
        )
    elif result.findings:
        rows = [[each.what, each.id, each.path, each.why] for each in result.findings]
        print_rows([Column("what"), Column("id"), Column("path"), Column("why")], rows)
    if result.unhashed:
        one = len(result.unhashed) == 1
        say(
            f"of {len(result.unhashed)} job{'' if one else 's'} the sidecar has no fingerprints of data: "
            "sigfs sidecar update --data makes them"
        )
    counts = {what: sum(each.what == what for each in result.findings) for what in _WHATS}
    told = [f"{count} {what}" for what, count in counts.items() if count or what != "unreadable"]
    say(f"{result.files} files of {result.jobs} jobs are as they were, {', '.join(told)}")
    if result.findings or (result.unhashed and not result.jobs):
        context.exit(Exit.FAILURE)


_WHATS: Final = ("changed", "missing", "added", "unreadable")


def _keys(
    project: Project, sidecar: Sidecar, jobs: Iterable[str], words: Sequence[str], filter_text: str | None
) -> list[JobId]:
    """The keys of the jobs that are meant; without a choice also of jobs that only the sidecar knows."""
    places = sidecar.places
    if not words and filter_text is None:
        there = listed(sidecar).keys
        ids = {places.id_of(key) for key in there}
        return there + [JobId(job_id) for job_id in jobs if job_id not in ids]
    chosen: Iterable[Job] = (
        project.find(parse_text(filter_text)) if filter_text is not None else jobs_of(project, words)
    )
    keys = [JobId(job.id) if "/" not in job.id else places.key_at(os.fspath(job)) for job in chosen]
    if places:
        places.listing()  # after which they are known by their keys
    return keys
