"""Where batches go is said by STIPPLE_CLUSTER; tests/on_clusters.py sends them there."""

import sys

import pytest

from flows import clusters
from tasks.errors import StippleError


def test_batches_stay_in_the_flows_own_process_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv(clusters.VARIABLE, raising=False)
    assert clusters.chosen() is None
    assert clusters.task_runner().name == "threadpool"


@pytest.mark.parametrize(
    "cluster, says",
    [
        ("spark", "must be dask, ray, tcp://"),
        ("http://127.0.0.1:8786", "must be dask, ray, tcp://"),
        ("dask", r"pip install -e '\.\[dask\]'"),
        ("tcp://127.0.0.1:8786", r"pip install -e '\.\[dask\]'"),
        ("ray", r"pip install -e '\.\[ray\]'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(monkeypatch, cluster, says):
    for package in ("prefect_dask", "prefect_ray"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv(clusters.VARIABLE, cluster)
    with pytest.raises(StippleError, match=says) as error:
        clusters.task_runner()
    assert "\n" not in str(error.value)
