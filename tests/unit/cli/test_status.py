"""How the status is shown, made of what servers say."""

from __future__ import annotations

import json
import os
import time

import click
import pytest

from sigfs.cli import status
from sigfs.mount.points import Probe
from sigfs.transports.mounts import Mount
from tests.support.commands import Run

SAID = {
    "jobs": 2,
    "project_jobs": 6,
    "generation": 9,
    "layout": "full",
    "filter": "a 1",
    "open_files": 3,
    "version": "1",
    "watch": {"mode": "inotify", "interval_s": None, "noticed_s": 0.0, "queue": 4, "busy_s": 0.0},
    "cache": {"names": 5, "hits": 9, "misses": 1},
    "requests": 100,
    "requests_per_s": 12.34,
    "under_way": 1,
    "waiting": 0,
    "stuck": 2,
    "stuck_s": 61.0,
    "passthrough": True,
    "process": {"pid": 4711},
}


def mounted(place: str) -> Mount:
    return Mount(place, 1, "fuse.sigfs", "/project", frozenset({"ro"}))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """One mount that is well, one that hangs, one that is dead."""
    answers = {"/well": Probe("alive", SAID), "/hung": Probe("hung"), "/dead": Probe("dead")}
    monkeypatch.setattr(status, "mounts", lambda: [mounted(place) for place in answers])
    monkeypatch.setattr(status, "probe_all", lambda places, *_, **__: [answers[place] for place in places])
    monkeypatch.setattr(status.registry, "registrations", list)
    return status.find_rows()


def test_every_mount_has_a_row_whether_or_not_it_answers(rows: list[dict[str, object]], run: Run) -> None:
    assert [(row["mountpoint"], row["state"], row["jobs"], row["pid"]) for row in rows] == [
        ("/well", "alive", 2, 4711), ("/hung", "hung", None, None), ("/dead", "dead", None, None),
    ]  # fmt: skip
    assert all(row["read_only"] for row in rows)
    code, out, _ = run("status")
    heading, well, *others = out.splitlines()
    cells = dict(zip(heading.split("\t"), well.split("\t"), strict=True))
    assert code == 0
    assert {"jobs": "2", "changes by": "inotify", "generation": "9", "queue": "4", "requests/s": "12.3"}.items() <= (
        cells.items()
    )
    assert (cells["cache hits"], cells["open files"]) == ("90.0 %", "3")
    assert cells["noticed"] == f"{int(time.time() / 86400)} d"
    assert len(others) == 2
    assert json.loads(run("status", "--json")[1]) == rows
    assert run("status", "/hung")[0] == 1
    assert run("status", "/well")[0] == 0


def test_people_are_told_what_waits_and_what_to_do(rows: list[dict[str, object]]) -> None:
    well, hung, dead = ("\n".join(status.describe(row)) for row in rows)
    assert "2 of 6 jobs, generation 9, layout full, filter a 1" in well
    assert "12.3 requests/s, 100 so far (1 under way, 2 stuck), 90.0 % of names from the cache, 3 files open" in well
    assert "requests have waited for the disk below for 61 s" not in well
    assert "requests have waited for the disk below for 1 min" in well
    assert "kill -USR1 4711" in well
    assert "kill -USR1" in hung
    assert "sigfs umount /dead" in dead


def test_metrics_say_of_each_mount_whether_it_answers(rows: list[dict[str, object]], run: Run) -> None:
    code, out, _ = run("status", "--metrics")
    assert code == 0
    lines = out.splitlines()
    assert lines.count("# TYPE sigfs_up gauge") == 1
    assert [line for line in lines if line.startswith("sigfs_up{")] == [
        'sigfs_up{project="/project",mountpoint="/well"} 1',
        'sigfs_up{project="/project",mountpoint="/hung"} 0',
        'sigfs_up{project="/project",mountpoint="/dead"} 0',
    ]
    assert 'sigfs_requests_total{project="/project",mountpoint="/well",kind="any"} 100' in lines
    assert run("status", "--metrics", "--json")[0] == 2


def test_watching_takes_an_interval_or_none() -> None:
    assert status._interval_of("0.5", None) == (0.5, None)
    assert status._interval_of("2.0", "/mnt") == (2.0, "/mnt")
    assert status._interval_of("/mnt", None) == (2.0, "/mnt")
    for word in ("0", "nan", "inf", "x"):
        with pytest.raises(click.BadParameter):
            status._interval_of(word, "/mnt")


def test_watching_prints_again_and_again(
    rows: list[dict[str, object]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", pause)
    code, out, _ = run("status", "--json", "--watch", "7", "/well")
    assert code == 0
    assert pauses == [7.0, 7.0, 7.0]
    assert [json.loads(line)[0]["mountpoint"] for line in out.splitlines()] == ["/well"] * 3


def test_on_a_terminal_the_status_is_drawn_over_and_over(
    rows: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status.sys.stdout, "isatty", lambda: True, raising=False)

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        status._watch("/well", 1.0, as_json=False, as_metrics=False)
    assert "/well: alive" in capsys.readouterr().out


def test_a_file_system_that_does_not_answer_is_hung_and_the_others_are_heard(tmp_path: os.PathLike[str]) -> None:
    from sigfs.mount.points import probe_all

    answers = probe_all([os.fspath(tmp_path), "/proc", "/"], 60.0)
    assert [answer.health for answer in answers] == ["alive"] * 3
