"""The HDF5 data of a job, as a mapping."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sigfs import Job
from sigfs.errors import NoSuchJob
from tests.support.outcome import unavailable


@pytest.fixture
def job(tmp_path: Path) -> Job:
    try:
        import h5py  # noqa: F401
    except ImportError:
        unavailable("h5py is not installed")
    return Job.init(tmp_path / "job", {"a": 1})


def test_values_come_back_as_they_were(job: Job) -> None:
    import numpy as np

    values = {
        "i": 42,
        "f": 0.5,
        "s": "text ü",
        "b": True,
        "none": None,
        "raw": b"bytes",
        "empty": "",
        "nested": {"x": {"y": 1}},
    }
    assert len(job.data) == 0
    assert not job.isfile("signac_data.h5")
    for key, value in values.items():
        job.data[key] = value
    job.data.array = np.arange(6).reshape(2, 3)
    assert {key: job.data[key] for key in values if key != "nested"} == {
        k: v for k, v in values.items() if k != "nested"
    }
    assert job.data.nested.x.y == 1
    assert job.data.nested() == {"x": {"y": 1}}
    assert (job.data.array == [[0, 1, 2], [3, 4, 5]]).all()
    assert sorted(job.data) == sorted([*values, "array"])
    del job.data["i"]
    assert "i" not in job.data
    assert job.data.get("i") is None
    job.data.nested.x.z = 2
    assert job.data["nested"]["x"] == {"y": 1, "z": 2}


def test_within_a_block_parts_of_an_array_are_read_and_written(job: Job) -> None:
    import numpy as np

    with job.data as data:
        data.x = np.zeros(10)
        job.data.x[3] = 7
        data.x[4] = 8
        assert data.file["x"].shape == (10,)
        with job.data:
            data.flush()
        assert data.x[3] == 7
    assert job.data.x[3:6].tolist() == [7, 8, 0]
    with pytest.raises(RuntimeError, match="not open"):
        _ = job.data.file


def test_assigning_replaces_everything(job: Job) -> None:
    job.data.x = 1
    job.data = {"y": 2, "z": {"a": [1, 2]}}
    assert sorted(job.data) == ["y", "z"]
    assert job.data.z.a.tolist() == [1, 2]
    job.data.y = {"now": "a group"}
    assert job.data.y.now == "a group"


def test_what_is_wrong_says_what(job: Job) -> None:
    with pytest.raises(KeyError, match="x"):
        _ = job.data["x"]
    with pytest.raises(AttributeError, match="x"):
        _ = job.data.x
    for key in ("a.b", "", 1):
        with pytest.raises(KeyError, match="key"):
            job.data[key] = 1
    with pytest.raises(KeyError):
        del job.data["x"]
    with pytest.raises(AttributeError, match="method"):
        job.data.open = 1
    Path(job.fn("signac_data.h5")).write_text("no HDF5")
    with pytest.raises(OSError, match=r"signac_data|signature"):
        _ = job.data["x"]


def test_signac_reads_it_and_is_read(job: Job) -> None:
    from signac import H5Store

    job.data = {"x": 1, "s": "text", "none": None, "nested": {"y": [1, 2]}}
    with H5Store(job.fn("signac_data.h5")) as store:
        assert (store["x"], store["s"], store["none"], list(store["nested"]["y"])) == (1, "text", None, [1, 2])
        store["back"] = {"z": "ü"}
    assert job.data.back.z == "ü"


def test_it_does_not_stay_open(job: Job) -> None:
    job.data.x = 1
    code = "import sys\nfrom sigfs import Job\nJob(sys.argv[1]).data.y = 2"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, job.fn("")], check=True, env=environment)
    assert job.data.y == 2
    assert pickle.loads(pickle.dumps(job)).data.x == 1


def test_the_data_of_a_job_that_is_gone_say_so(job: Job) -> None:
    job.remove()
    for use in (
        lambda: job.data["x"],
        lambda: job.data.x,
        lambda: len(job.data),
        lambda: job.data.update(x=1),
        lambda: setattr(job.data, "x", 1),
        lambda: delattr(job.data, "x"),
        job.data.open,
    ):
        with pytest.raises(NoSuchJob):
            use()
