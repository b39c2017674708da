"""The status of mounts as Prometheus reads it: the text exposition format, version 0.0.4.

Owned here: which figures there are, and what they are called. All are made of what ``Operations.status`` says, so that
there is one source.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ and .../docs/practices/naming/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from sigfs.model.types import Json


class Metric(NamedTuple):
    """One figure.

    Attributes:
        name: in base units; of a counter with ``_total``.
        help: one line.
        keys: where it is in the status, with points; a mapping there becomes one sample for each of its keys, which
            are the label ``kind``.
    """

    name: str
    type: Literal["counter", "gauge"]
    help: str
    keys: str


METRICS: Final = (
    Metric("sigfs_up", "gauge", "Whether the mount answers.", "up"),
    Metric("sigfs_mount_time_seconds", "gauge", "When it was mounted, in seconds since 1970.", "mounted_s"),
    Metric("sigfs_jobs", "gauge", "Jobs that the mount shows.", "jobs"),
    Metric("sigfs_project_jobs", "gauge", "Jobs of the project.", "project_jobs"),
    Metric("sigfs_index_generation", "gauge", "Grows with each change of jobs.", "generation"),
    Metric("sigfs_requests_total", "counter", "Requests of the kernel.", "requests_by_kind"),
    Metric("sigfs_requests_under_way", "gauge", "Requests that are being answered.", "under_way"),
    Metric("sigfs_requests_waiting", "gauge", "Requests that have not begun, or wait for a lock.", "waiting"),
    Metric("sigfs_requests_stuck", "gauge", "Requests that have waited for the disk for some time.", "stuck"),
    Metric("sigfs_requests_stuck_seconds", "gauge", "For how long the first of them has.", "stuck_s"),
    Metric("sigfs_request_threads", "gauge", "Threads that answer requests.", "threads"),
    Metric("sigfs_open_files", "gauge", "Files that are open in the mount.", "open_files"),
    Metric("sigfs_open_directories", "gauge", "Directories that are open in the mount.", "open_directories"),
    Metric("sigfs_inodes", "gauge", "Files and directories that the kernel remembers.", "inodes"),
    Metric("sigfs_locks", "gauge", "Files that have locks.", "locks"),
    Metric("sigfs_names_cached", "gauge", "Names of virtual directories that are remembered.", "cache.names"),
    Metric("sigfs_name_hits_total", "counter", "Names looked up that were remembered.", "cache.hits"),
    Metric("sigfs_name_misses_total", "counter", "Names looked up that had to be found.", "cache.misses"),
    Metric("sigfs_notifications_total", "counter", "What the kernel was told not to believe.", "notifications"),
    Metric("sigfs_full_passes_total", "counter", "Changes after which all it holds was looked at.", "full_passes"),
    Metric("sigfs_passthrough", "gauge", "Whether data bypasses the server.", "passthrough"),
    Metric("sigfs_read_only", "gauge", "Whether the mount is read-only.", "read_only"),
    Metric("sigfs_watch_noticed_time_seconds", "gauge", "When a change below was last noticed.", "watch.noticed_s"),
    Metric("sigfs_watch_events_total", "counter", "Events that named a job.", "watch.events"),
    Metric("sigfs_watch_overflows_total", "counter", "How often events were lost.", "watch.overflows"),
    Metric("sigfs_watch_queue", "gauge", "Jobs yet to be looked at or told.", "watch.queue"),
    Metric("sigfs_watch_busy_seconds", "gauge", "How long the watcher has been at one thing.", "watch.busy_s"),
    Metric("sigfs_watch_pending_jobs", "gauge", "Directories whose state point is awaited.", "watch.pending"),
    Metric("sigfs_watch_attached", "gauge", "Whether the workspace is there.", "watch.attached"),
    Metric("sigfs_watches", "gauge", "Watches of the kernel that follow the workspace.", "watch.watches"),
    Metric("sigfs_compared_time_seconds", "gauge", "When all was last compared.", "watch.last.time_s"),
    Metric("sigfs_comparison_seconds", "gauge", "How long that took.", "watch.last.duration_s"),
    Metric("sigfs_process_resident_memory_bytes", "gauge", "Memory of the server.", "process.memory_bytes"),
    Metric("sigfs_process_cpu_seconds_total", "counter", "Processor time of the server.", "process.cpu_s"),
    Metric("sigfs_process_threads", "gauge", "Threads of the server.", "process.threads"),
    Metric("sigfs_process_open_fds", "gauge", "Descriptors that the server has open.", "process.descriptors"),
    Metric("sigfs_process_max_fds", "gauge", "Descriptors that it may have open.", "process.descriptors_limit"),
)

_INFO: Final = Metric("sigfs_info", "gauge", "What is mounted, and how; always 1.", "")
_INFO_KEYS: Final = {
    "version": "version", "transport": "transport", "layout": "layout", "filter": "filter",
    "watch": "watch.mode", "file_system": "watch.file_system",
}  # fmt: skip


def exposition(mounts: Iterable[Mapping[str, Json]]) -> str:
    """Spell the status of mounts.

    Args:
        mounts: of each what ``Operations.status`` says, with at least ``project`` and ``mountpoint``. What is not
            there, or None, has no sample.
    """
    lines: list[str] = []
    found = [_complete(mount) for mount in mounts]
    for metric in (*METRICS, _INFO):
        samples = [sample for mount in found for sample in _samples(metric, mount)]
        if samples:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.type}", *samples]
    return "".join(f"{line}\n" for line in lines)


def _complete(mount: Mapping[str, Json]) -> dict[str, Json]:
    """Say that it is up unless that is known, and count requests of any kind where their kinds are not counted."""
    by_kind = {"any": mount["requests"]} if "requests" in mount else None
    return {"up": True, "requests_by_kind": by_kind, **mount}


def _samples(metric: Metric, mount: Mapping[str, Json]) -> Iterator[str]:
    labels = {name: str(mount.get(name, "")) for name in ("project", "mountpoint")}
    if metric is _INFO:
        if "version" in mount:
            yield _sample(metric, labels | {name: str(_at(mount, keys)) for name, keys in _INFO_KEYS.items()}, 1)
        return
    value = _at(mount, metric.keys)
    values = value.items() if isinstance(value, Mapping) else [("", value)]
    for kind, each in values:
        if isinstance(each, bool | int | float):
            yield _sample(metric, labels | ({"kind": kind} if kind else {}), each)


def _at(mount: Mapping[str, Json], keys: str) -> Json:
    """Give what is at *keys*, None if there is nothing."""
    found: Json = mount
    for key in keys.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _sample(metric: Metric, labels: Mapping[str, str], value: float) -> str:
    spelled = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
    return f"{metric.name}{{{spelled}}} {_number(value)}"


def _escaped(text: str) -> str:
    r"""Spell the value of a label; what is no UTF-8 as an escape.

    >>> print(_escaped('a "b"\n\\ü\udcff'))
    a \"b\"\n\\ü\\udcff
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    """Spell a number.

    >>> [_number(each) for each in (True, 12, 0.5, math.inf, math.nan)]
    ['1', '12', '0.5', '+Inf', 'NaN']
    """
    if isinstance(value, int):
        return str(int(value))
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)
