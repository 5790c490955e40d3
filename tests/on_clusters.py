"""The same bytes from this process, a Dask cluster and a Ray cluster of two workers each: `make test-clusters`.

Not part of `make test`, which does without the two packages.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from flows.pipeline import DATASET
from tests.test_end_to_end import BIN, digests, make_project


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DVC_", "STIPPLE_"))}
    home = str(tmp_path_factory.mktemp("prefect"))
    return kept | {"PATH": f"{BIN}:{kept['PATH']}", "PREFECT_HOME": home, "DVC_NO_ANALYTICS": "1"}


def dataset_of(folder: Path, environment: dict[str, str], cluster: str) -> tuple[dict[str, str], str]:
    """The files of a project after its `dataset` flow, and what the flow said."""

    def run(project: Path, *words: str) -> str:
        done = subprocess.run(
            words, cwd=project, env=environment | {"STIPPLE_CLUSTER": cluster}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    project = make_project(folder, run, clips=2)
    profile = project / "profiles" / "demo.yaml"
    profile.write_text(re.sub(r"batch_size: \d+", "batch_size: 4", profile.read_text()))  # more batches than workers
    said = run(project, "python", "-c", "from flows.pipeline import dataset\nif __name__ == '__main__': dataset()")
    assert "up to date" in run(project, "dvc", "status", *DATASET)
    return digests(project), said


@pytest.fixture(scope="module")
def here(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return dataset_of(tmp_path_factory.mktemp("here"), environment, "")[0]


@pytest.mark.parametrize(
    "cluster, says", [("dask", "Creating a new Dask cluster"), ("ray", "Using Ray cluster with 1")]
)
def test_a_cluster_of_two_workers_gives_the_same_bytes(
    here: dict[str, str], environment: dict[str, str], tmp_path: Path, cluster: str, says: str
) -> None:
    files, said = dataset_of(tmp_path, environment, cluster)
    assert says in said
    assert files == here
