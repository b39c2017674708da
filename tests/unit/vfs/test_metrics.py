"""Metrics are the status, spelled as Prometheus reads it."""

from __future__ import annotations

import re

from sigfs.vfs.metrics import METRICS, exposition
from sigfs.vfs.process import process_status
from tests.unit.vfs.conftest import World

SAMPLE = re.compile(
    r'(?P<name>[a-z_]+)\{(?P<labels>(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\} (?P<value>[-+0-9.e]+|NaN|[-+]Inf)'
)


def samples(text: str) -> dict[tuple[str, str], float]:
    """Read the format, strictly: each family is together, after its HELP and TYPE."""
    found: dict[tuple[str, str], float] = {}
    assert text.endswith("\n")
    lines = iter(text.splitlines())
    families: list[str] = []
    for line in lines:
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in families
            families.append(family)
            kind = next(lines).split()
            assert kind[:3] == ["#", "TYPE", family]
            assert kind[3] == ("counter" if family.endswith("_total") else "gauge")
            continue
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        assert match["name"] == families[-1]
        key = (match["name"], match["labels"])
        assert key not in found
        found[key] = float(match["value"])
    return found


def test_a_mount_is_described_in_the_format_whatever_its_name() -> None:
    mount = {"project": 'a "b"\n', "mountpoint": "\\ü\udcff", "jobs": 3, "read_only": True, "stuck_s": 0.25}
    found = samples(exposition([mount, {"project": "p", "mountpoint": "m", "jobs": None, "requests": 7}]))
    labels = r'project="a \"b\"\n",mountpoint="\\ü\\udcff"'
    assert found["sigfs_jobs", labels] == 3
    assert found["sigfs_read_only", labels] == 1
    assert found["sigfs_requests_stuck_seconds", labels] == 0.25
    other = 'project="p",mountpoint="m"'
    assert ("sigfs_jobs", other) not in found
    assert found["sigfs_requests_total", f'{other},kind="any"'] == 7
    assert found["sigfs_up", labels] == found["sigfs_up", other] == 1
    assert exposition([]) == ""


def test_metrics_and_status_are_of_one_reading(world: World) -> None:
    world.operations.attach_status(
        lambda: {"mode": "polling", "queue": 5, "last": {"time_s": 2.5}},
        {"project": "/p", "mountpoint": "/m", "version": "1"},
    )
    world.at("foo/1")
    world.at("foo/1")
    status = world.operations.status()
    assert status["cache"] == {"names": 2, "hits": 2, "misses": 2}
    text = world.read_file(world.at(".sigfs/metrics")).decode()
    found = samples(text)
    labels = 'project="/p",mountpoint="/m"'
    assert found["sigfs_jobs", labels] == status["jobs"] == 2
    assert found["sigfs_name_hits_total", labels] == 2
    assert found["sigfs_watch_queue", labels] == 5
    assert found["sigfs_compared_time_seconds", labels] == 2.5
    assert found["sigfs_process_resident_memory_bytes", labels] > 1e6
    info = next(key for key in found if key[0] == "sigfs_info")
    assert 'watch="polling"' in info[1]


def test_names_are_those_of_counters_and_of_base_units() -> None:
    for metric in METRICS:
        assert metric.name.startswith("sigfs_")
        assert metric.name.endswith("_total") == (metric.type == "counter")
        if metric.keys.endswith("_s"):
            assert "_seconds" in metric.name
        if metric.keys.endswith("_bytes"):
            assert metric.name.endswith("_bytes")


def test_a_process_says_what_it_uses() -> None:
    found = process_status()
    for name in ("pid", "threads", "memory_bytes", "descriptors"):
        value = found[name]
        assert isinstance(value, int)
        assert value > 0


def test_requests_are_counted_by_the_second(world: World) -> None:
    world.operations.attach(world.notifier, can_notify=True, statistics=lambda: {"requests": 5, "passthrough": False})
    assert world.operations.status()["requests_per_s"] == 0.0
