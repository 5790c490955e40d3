"""A few of the faults of `make faults`, which has them all."""

from pathlib import Path

import pytest

from tests.faults.__main__ import good, run

FEW = ["kill-run-10", "kill-child-03", "row-store-half"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder: Path = tmp_path_factory.mktemp("faults")
    return {row["fault"]: row for row in run(FEW, folder, jobs=2)}


@pytest.mark.parametrize("name", FEW)
def test_after_a_fault_one_plain_rerun_leaves_everything_as_if_there_had_been_none(name: str, rows: dict) -> None:
    assert good(rows[name]), rows[name]
    assert rows[name]["kept"]
