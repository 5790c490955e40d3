"""Data flows one way: flows → tasks → fm."""

import ast
from pathlib import Path

import pytest
import yaml

from flows.pipeline import DATASET, TRAINING
from flows.stages import MODULES

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "fm": {"tasks", "flows", "demo", "prefect", "dvc", "pyarrow", "pandas", "transformers"},
    "tasks": {"flows", "demo", "prefect"},
    "flows": {"demo"},
}


def imported(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    names += [n.module or "" for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_downwards_only(package: str) -> None:
    wrong = {
        file.name: found for file in (ROOT / package).glob("*.py") if (found := imported(file) & FORBIDDEN[package])
    }
    assert wrong == {}


def test_only_the_record_talks_to_dvc() -> None:
    assert [file.name for file in (ROOT / "tasks").glob("*.py") if "dvc" in imported(file)] == ["record.py"]


def test_dvc_and_the_flows_know_the_same_stages_in_the_same_order() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == list(MODULES) == [*DATASET, *TRAINING]
    assert all(stage["cmd"] == f"stipple stage {name}" for name, stage in stages.items())


def test_a_stage_is_stale_when_its_own_module_changes() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        assert MODULES[name].replace(".", "/") + ".py" in stage["deps"], name


def test_every_module_of_tasks_is_a_dependency_of_a_stage_or_serves_them_all_or_is_a_command() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    named = {dep for stage in stages for dep in stage["deps"] if dep.startswith("tasks/")}
    serving = {"__init__", "errors", "settings", "tables", "files", "rows", "batches", "stages", "checkpoints"}
    serving |= {"record", "lock", "changes"}
    commands = {"promotion", "registry", "contest", "overview", "forecast", "cache", "toys", "clouds"}
    modules = {f"tasks/{path.name}" for path in (ROOT / "tasks").glob("*.py")}
    assert named | {f"tasks/{name}.py" for name in serving | commands} == modules
