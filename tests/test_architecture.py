"""Data flows one way, flows → tasks → fm, and dvc.yaml knows all the code that a stage's result comes from."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tasks.pipeline import STAGES
from tests.support import ROOT

FORBIDDEN = {
    "fm": {"tasks", "flows", "demo", "prefect", "dvc", "pyarrow", "pandas", "transformers"},
    "tasks": {"flows", "demo", "prefect"},
    "flows": {"demo"},
}
LEFT_OUT = {
    "fm/_checks.py": "it only refuses wrong arguments",
    "tasks/errors.py": "it only says what went wrong",
    "tasks/progress.py": "it only shows how far a stage is",
    "tasks/clouds/stops.py": "when a training ends early, not what the next run makes of it",
    "tasks/settings.py": "what it reads are the stage's params",
    "tasks/pipeline.py": "the stages' names and order",
    "tasks/store/digests.py": "a row's key; with another one the rows are computed anyway",
    "tasks/store/files.py": "how a file comes to its place, not what is in it",
    "tasks/store/retry.py": "what is tried again, not what comes out",
    "tasks/store/rows.py": "what was computed is kept there, and comes back as it was",
    "tasks/registry/versions.py": "which weights it gives is settled by their digest in models/start.json",
}
"""Code that stages use and that cannot change their results, and why."""


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no modules"
    return found


def imports(file: Path) -> Iterator[str]:
    """Dotted names that a module imports, wherever it does so, but for its type hints alone."""
    todo: list[ast.AST] = [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(name: str) -> Path | None:
    """The module of this repository that a dotted name stands for."""
    path = ROOT / f"{name.replace('.', '/')}.py"
    return path if path.is_file() else None


def closure(file: Path) -> set[str]:
    """The modules of tasks and fm that a module's result can depend on, itself included, as paths."""
    found, todo = set(), [file]
    while todo:
        here = todo.pop()
        path = here.relative_to(ROOT).as_posix()
        if path not in found | LEFT_OUT.keys():
            found.add(path)
            todo += filter(None, map(file_of, imports(here)))
    return found


def stages() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_downwards_only(package: str) -> None:
    top = {file: {name.split(".")[0] for name in imports(file)} for file in modules(package)}
    assert {file.name: found for file in top if (found := top[file] & FORBIDDEN[package])} == {}


def test_one_module_talks_to_dvc() -> None:
    found = [file for file in modules("tasks") if "dvc" in {name.split(".")[0] for name in imports(file)}]
    assert found == [ROOT / "tasks" / "project" / "dvc.py"]


def test_dvc_and_the_flows_know_the_same_stages_in_the_same_order() -> None:
    assert list(stages()) == list(STAGES)
    assert all(stage["cmd"] == f"stipple stage {name}" for name, stage in stages().items())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_stale_when_code_that_its_result_comes_from_changes_and_only_then(name: str) -> None:
    wanted = closure(ROOT / "tasks" / f"{name}.py")
    declared = {dep for dep in stages()[name]["deps"] if dep.startswith(("tasks", "fm"))}
    assert sorted(declared) == sorted(wanted), f"write these under {name}.deps in dvc.yaml"


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_imports_a_stage(name: str) -> None:
    others = {f"tasks/{other}.py" for other in STAGES} - {f"tasks/{name}.py"}
    assert closure(ROOT / "tasks" / f"{name}.py") & others == set()


def test_what_stages_stand_on_imports_no_stage() -> None:
    above = {f"tasks.{name}" for name in STAGES}
    below = [file for file in modules("tasks") if file.parent.name not in ("tasks", "project")]
    assert {str(file): found for file in below if (found := set(imports(file)) & above)} == {}


def test_what_is_left_out_is_there() -> None:
    assert [path for path in LEFT_OUT if not (ROOT / path).is_file()] == []


def test_a_stage_of_dvc_repro_loads_no_prefect() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from flows import cli; "
        "CliRunner().invoke(cli.app, ['stage', 'frames']); "
        "assert 'tasks.pipeline' in sys.modules and 'tasks.project.dvc' in sys.modules; print('prefect' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
