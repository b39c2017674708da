"""``sigfs status``: what is mounted, whether it answers, and how it is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final, TypeAlias

import click

from sigfs.cli import registry
from sigfs.cli.app import say
from sigfs.cli.exits import Exit
from sigfs.cli.output import Column, print_json, print_rows, print_text, printable
from sigfs.cli.params import MountedPath
from sigfs.mount.points import Probe, probe_all
from sigfs.transports.mounts import FS_TYPE, Mount, mounts, resolve_mountpoint
from sigfs.vfs.metrics import exposition

Row: TypeAlias = "dict[str, object]"

STATUS_S: Final = 2.0
"""How long to wait for the mounts to answer."""

_WATCH_S: Final = 2.0
_LEAST_S: Final = 0.1

_OLD_S: Final = 5.0
"""What has waited for the disk for longer is worth a remark."""


@click.command(
    "status",
    epilog="""\b
Examples:
  sigfs status
  sigfs status --json | jq '.[].jobs'
  sigfs status --watch                again and again, until Ctrl-C
  sigfs status ~/mnt                  exit code 1 unless it is mounted and answers
  sigfs status --metrics              for Prometheus""",
)
@click.argument("path", metavar="[MNT]", required=False, type=MountedPath())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of objects; with --watch one a line.")
@click.option("--metrics", "as_metrics", is_flag=True, help="Print the text that Prometheus reads.")
@click.option(
    "--watch",
    "watch",
    metavar="[SECONDS]",
    is_flag=False,
    flag_value=str(_WATCH_S),
    help=f"Show it again every so many seconds ({_WATCH_S:g}).",
)
def status_command(path: str | None, as_json: bool, as_metrics: bool, watch: str | None) -> None:
    """List the sigfs mounts of this machine, whether they answer, and how they are."""
    if as_json and as_metrics:
        raise click.UsageError("--json or --metrics", click.get_current_context())
    interval_s = None
    if watch is not None:
        interval_s, path = _interval_of(watch, path)
    if interval_s is None:
        rows = find_rows(path)
        _show(rows, path, as_json=as_json, as_metrics=as_metrics)
        if path is not None and not any(row["state"] == "alive" for row in rows):
            click.get_current_context().exit(Exit.FAILURE)
        return
    try:
        _watch(path, interval_s, as_json=as_json, as_metrics=as_metrics)
    except KeyboardInterrupt:  # the way to end it
        return


def _interval_of(word: str, path: str | None) -> tuple[float, str | None]:
    """Read the value of ``--watch``, which may be the mount point that was meant to come after it."""
    try:
        interval_s = float(word)
    except ValueError:
        if path is None:
            return _WATCH_S, word
        interval_s = 0.0
    if not _LEAST_S <= interval_s < float("inf"):
        raise click.BadParameter(f"{word!r} is no number of seconds, {_LEAST_S:g} or more", param_hint="--watch")
    return interval_s, path


def find_rows(path: str | None = None) -> list[Row]:
    """Say of all sigfs mounts, or of that at *path*, what is known. They are waited for no longer than ``STATUS_S``.

    Returns:
        What the server says (``Operations.status``), if it does; and always mountpoint, project, state ("alive",
        "dead", "hung"), read_only, pid, layout, filter, transport, log_file, jobs (None: not known), watch.
    """
    found = [mount for mount in mounts() if mount.type == FS_TYPE]
    if path is not None:
        mountpoint = resolve_mountpoint(path)
        found = [mount for mount in found if mount.mountpoint == mountpoint][-1:]
    servers = {server.mountpoint: server for server in registry.registrations()}
    answers = probe_all([mount.mountpoint for mount in found], STATUS_S, status=True)
    return [_row(mount, servers.get(mount.mountpoint), answer) for mount, answer in zip(found, answers, strict=True)]


def _row(mount: Mount, server: registry.Registration | None, answer: Probe) -> Row:
    process = answer.status.get("process")
    pid = process.get("pid") if isinstance(process, dict) else None
    known = asdict(server) if server else {**dict.fromkeys(registry.Registration.__slots__), "pid": pid}
    known.pop("started")
    return {
        **known,
        "project": mount.source,
        "read_only": "ro" in mount.options,
        "jobs": None,
        "watch": {},
        **answer.status,
        "mountpoint": mount.mountpoint,
        "state": answer.health,
    }


# How it is shown


def _show(rows: Sequence[Row], path: str | None, *, as_json: bool, as_metrics: bool) -> None:
    if as_json:
        print_json(rows)
    elif as_metrics:
        click.echo(metrics(rows), nl=False)
    elif not rows:
        say(f"{path} is no sigfs mount" if path else "nothing is mounted")
    elif sys.stdout.isatty():
        for line in _described(rows):
            print_text(line)
    else:
        print_rows(*table(rows))


def _watch(path: str | None, interval_s: float, *, as_json: bool, as_metrics: bool) -> None:
    if as_json or as_metrics or not sys.stdout.isatty():
        while True:
            rows = find_rows(path)
            if as_json:
                click.echo(json.dumps(rows))
            else:
                _show(rows, path, as_json=False, as_metrics=as_metrics)
            sys.stdout.flush()
            time.sleep(interval_s)
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False) as live:  # no thread: ``probe_all`` forks
        while True:
            rows = find_rows(path)
            lines = [time.strftime("%H:%M:%S"), *(_described(rows) or ["nothing is mounted"])]
            live.update(Text("\n".join(map(printable, lines)), no_wrap=True, overflow="ellipsis"), refresh=True)
            time.sleep(interval_s)


def metrics(rows: Sequence[Row]) -> str:
    """Spell the status for Prometheus; of a mount that does not answer, that it does not."""
    return exposition({**row, "up": row["state"] == "alive"} for row in rows)


_COLUMNS: Final = (
    "mountpoint", "project", "state", "jobs", "changes by", "layout", "filter", "transport", "pid",
    "generation", "noticed", "queue", "requests/s", "cache hits", "open files",
)  # fmt: skip


def table(rows: Sequence[Row]) -> tuple[list[Column], list[list[str]]]:
    """Give headings and cells."""
    cells = []
    for row in rows:
        watch = _mapping(row, "watch")
        rate = row.get("requests_per_s")
        shown = {
            **row,
            "changes by": watching(watch),
            "noticed": age(watch.get("noticed_s")),
            "queue": watch.get("queue"),
            "requests/s": f"{rate:.1f}" if isinstance(rate, float | int) else None,
            "cache hits": hits(_mapping(row, "cache")),
            "open files": row.get("open_files"),
        }
        cells.append(["" if shown.get(name) is None else str(shown[name]) for name in _COLUMNS])
    return [Column(name) for name in _COLUMNS], cells


def _described(rows: Sequence[Row]) -> list[str]:
    return [line for number, row in enumerate(rows) for line in ([""] if number else []) + list(describe(row))]


def describe(row: Row) -> Iterator[str]:
    """Say how a mount is, in some lines for people."""
    kind = ", read-only" if row["read_only"] else ""
    yield f"{row['mountpoint']}: {row['state']}{kind}, {row['project']}"
    pid = row["pid"]
    if "generation" in row:
        jobs = f"{row['jobs']} jobs"
        if row["jobs"] != row["project_jobs"]:
            jobs = f"{row['jobs']} of {row['project_jobs']} jobs"
        chosen = f", filter {row['filter']}" if row.get("filter") else ""
        yield f"  {jobs}, generation {row['generation']}, layout {row['layout']}{chosen}"
        watch = _mapping(row, "watch")
        noticed = age(watch.get("noticed_s"))
        said = f", the last noticed {noticed} ago" if noticed else ", none noticed yet"
        yield f"  changes by {watching(watch)}{said}, {watch.get('queue', 0)} in the queue"
        yield f"  {_requests(row)}, {row['open_files']} files open"
        yield from (f"  {line}" for line in remarks(row))
    elif row["state"] == "hung":
        yield f"  it does not answer; where it waits, it writes to its log when told: kill -USR1 {pid or 'PID'}"
    elif row["state"] == "dead":
        yield f"  its server is gone; take it away: sigfs umount {row['mountpoint']}"
    passed = " with passthrough" if row.get("passthrough") else ""
    transport = f"transport {row['transport']}{passed}" if row["transport"] else "a server of somebody else"
    process = f", process {pid}" if pid else ""
    written = f", log {row['log_file']}" if row["log_file"] else ""
    yield f"  {transport}{process}{written}"


def _requests(row: Row) -> str:
    rate = row.get("requests_per_s", 0.0)
    said = f"{rate:.1f} requests/s, {row.get('requests', 0)} so far"
    waiting = [f"{row[name]} {name.replace('_', ' ')}" for name in ("under_way", "waiting", "stuck") if row.get(name)]
    found = hits(_mapping(row, "cache"))
    cache = f", {found} of names from the cache" if found else ""
    return said + (f" ({', '.join(waiting)})" if waiting else "") + cache


def remarks(row: Row) -> Iterator[str]:
    """Say what hangs below a mount that answers."""
    watch = _mapping(row, "watch")
    for what, waited_s in (("requests have", row.get("stuck_s")), ("the watcher has", watch.get("busy_s"))):
        if isinstance(waited_s, float | int) and waited_s > _OLD_S:
            where = f"where, its log says after: kill -USR1 {row['pid']}"
            yield f"{what} waited for the disk below for {_duration(waited_s)}; {where}"


def watching(watch: Mapping[str, object]) -> str:
    """Say how changes below are noticed, and how often one looks where nothing tells of them."""
    if "mode" not in watch:
        return ""
    interval_s = watch.get("interval_s")
    return str(watch["mode"]) if interval_s is None else f"{watch['mode']} ({interval_s:.1f} s)"


def age(time_s: object) -> str:
    """Say how long ago something was, given in seconds since 1970; empty if that is not known."""
    return _duration(max(0.0, time.time() - time_s)) if isinstance(time_s, float | int) else ""


def hits(cache: Mapping[str, object]) -> str:
    """Say which part of the names looked up was remembered; empty if none was looked up.

    >>> hits({"hits": 3, "misses": 1}), hits({})
    ('75.0 %', '')
    """
    found, missed = cache.get("hits", 0), cache.get("misses", 0)
    if not isinstance(found, int) or not isinstance(missed, int) or not found + missed:
        return ""
    return f"{100 * found / (found + missed):.1f} %"


def _duration(seconds: float) -> str:
    """Say a time in one unit.

    >>> [_duration(each) for each in (0.2, 59, 3599, 90000, 1e6)]
    ['0 s', '59 s', '59 min', '25 h', '11 d']
    """
    for size_s, unit, most in ((1, "s", 60), (60, "min", 60), (3600, "h", 48)):
        if seconds < size_s * most:
            return f"{int(seconds / size_s)} {unit}"
    return f"{int(seconds / 86400)} d"


def _mapping(row: Row, name: str) -> Mapping[str, object]:
    found = row.get(name)
    return found if isinstance(found, dict) else {}
