"""A real DVC project in a real git repository: one stage that doubles a number."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.errors import StippleError
from tasks.project import forecast, reproduction
from tasks.project.dvc import previous, versions
from tasks.project.reproduction import Outcome
from tests.support import ROOT
from tests.support.doubling import DVC_YAML, SCRIPT, damage_cache, double, dvc, forbidden


def test_a_result_is_recorded_as_dvc_repro_would(project: Path) -> None:
    assert double(project) is Outcome.COMPUTED
    assert "up to date" in dvc(project, "status")
    assert "didn't change" in dvc(project, "repro")


def test_a_result_of_dvc_repro_is_not_computed_again(project: Path) -> None:
    dvc(project, "repro")
    assert reproduction.reproduce("double", forbidden) is Outcome.UNCHANGED


def test_going_back_to_earlier_params_computes_nothing(project: Path) -> None:
    double(project)
    (project / "params.yaml").write_text("scale: 2\n")
    assert double(project) is Outcome.COMPUTED
    (project / "params.yaml").write_text("scale: 1\n")
    assert reproduction.reproduce("double", forbidden) is Outcome.RESTORED
    assert "up to date" in dvc(project, "status")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("43\n")], ids=["deleted", "edited"])
def test_a_lost_or_edited_output_comes_back(project: Path, damage) -> None:
    double(project)
    damage(project / "out.txt")
    assert reproduction.reproduce("double", forbidden) is Outcome.RESTORED
    assert (project / "out.txt").read_text() == "42\n"


def test_a_failed_run_leaves_outputs_and_record_as_they_were(project: Path) -> None:
    double(project)
    lock = (project / "dvc.lock").read_bytes()
    (project / "input.txt").write_text("4")

    def fail() -> None:
        (project / "out.txt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        reproduction.reproduce("double", fail)
    assert (project / "out.txt").read_text() == "42\n"
    assert (project / "dvc.lock").read_bytes() == lock


@pytest.mark.parametrize("door", ["reproduce", "verify_unchanged"])
def test_a_full_disk_is_told_in_one_line_whoever_met_it(project: Path, door: str) -> None:
    """/dev/full is a disk without space, and torch, say, knows no StippleError."""
    double(project)
    (project / "input.txt").write_text("4")

    def fill() -> None:
        Path("/dev/full").write_text("half")

    with pytest.raises(StippleError, match="no space left on the disk of"):
        if door == "reproduce":
            reproduction.reproduce("double", fill)
        else:
            with reproduction.verify_unchanged("double"):
                fill()
    assert (project / "out.txt").read_text() == "42\n"


@pytest.mark.parametrize("name, text", [("params.yaml", "scale: 9\n"), ("input.txt", "5")])
def test_a_result_whose_question_moved_meanwhile_is_not_recorded(project: Path, name: str, text: str) -> None:
    def compute() -> None:
        (project / "out.txt").write_text("42\n")
        (project / name).write_text(text)

    with pytest.raises(StippleError, match=name):
        reproduction.reproduce("double", compute)
    assert not (project / "dvc.lock").exists()
    assert double(project) is Outcome.COMPUTED


def test_a_dep_that_moves_while_dvc_repro_works_keeps_the_result_out_of_the_record(project: Path) -> None:
    """What `stipple stage` does: DVC reads the deps after the work alone."""
    (project / "double.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\nfrom tasks.project import reproduction\n"
        "with reproduction.verify_unchanged('double'):\n"
        f"    {SCRIPT}\n"
        "    Path('params.yaml').write_text('scale: 9\\n')\n"
    )
    with pytest.raises(subprocess.CalledProcessError) as failed:
        dvc(project, "repro")
    assert "params.yaml changed while double ran" in failed.value.stderr
    assert not (project / "dvc.lock").exists()


@pytest.mark.parametrize("door", ["reproduce", "verify_unchanged"])
def test_a_result_of_code_that_was_saved_over_is_not_recorded(project: Path, door: str) -> None:
    """The process that works has imported what the file was before."""
    for package in ("tasks", "fm"):
        shutil.copytree(ROOT / package, project / package)
    (project / "dvc.yaml").write_text(DVC_YAML.replace("deps: [", "deps: [tasks, "))
    doors = {
        "reproduce": "reproduction.reproduce('double', lambda: Path('out.txt').write_text('42'))",
        "verify_unchanged": "\n with reproduction.verify_unchanged('double'): Path('out.txt').write_text('42')",
    }
    script = f"""
from pathlib import Path
from tasks.project import reproduction
Path("tasks/store/rows.py").open("a").write("# a remark")
try: {doors[door]}
except reproduction.StippleError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tasks changed while double ran"), done.stderr
    assert not (project / "dvc.lock").exists()


def cut(path: Path) -> None:
    """As a writer that was killed in the middle of a word."""
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"deps:") + 3])


def half_written(entry: Path) -> None:
    """A run cache entry as a kill leaves it between its folder and its name."""
    next(entry.iterdir()).rename(entry / ".draft.tmp")
    cut(entry / ".draft.tmp")


@pytest.mark.parametrize(
    "damage, outcome",
    [
        (lambda project: cut(project / "dvc.lock"), Outcome.RESTORED),
        (lambda project: (project / "dvc.lock").write_text(""), Outcome.RESTORED),
        (lambda project: (project / ".dvc" / "tmp" / "rwlock").write_text(""), Outcome.UNCHANGED),
        (lambda project: half_written(next((project / ".dvc/cache/runs").glob("*/*"))), Outcome.UNCHANGED),
    ],
    ids=["lock cut", "lock empty", "rwlock", "run cache"],
)
def test_notes_that_a_kill_left_half_written_stop_no_run(project: Path, damage, outcome: Outcome) -> None:
    double(project)
    damage(project)
    assert reproduction.reproduce("double", forbidden) is outcome
    (project / "out.txt").unlink()
    assert double(project) is not Outcome.UNCHANGED
    assert (project / "out.txt").read_text() == "42\n"
    assert "up to date" in dvc(project, "status")


def test_what_was_damaged_in_dvcs_cache_is_computed_again(project: Path) -> None:
    double(project)
    cached = damage_cache(project)
    (project / "out.txt").unlink()
    assert previous("out.txt") is None
    assert double(project) is Outcome.COMPUTED
    assert (project / "out.txt").read_text() == cached.read_text() == "42\n"
    assert "up to date" in dvc(project, "status")


def test_the_previous_version_of_an_output_is_found_after_dvc_removed_it(project: Path) -> None:
    double(project)
    (project / "out.txt").unlink()
    found = previous("out.txt")
    assert found is not None and found.read_text() == "42\n"
    assert previous("other.txt") is None


def test_outside_a_dvc_project_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StippleError, match="not a DVC project"):
        reproduction.reproduce("double", forbidden)


def test_a_question_is_the_same_until_an_input_or_a_parameter_moves(project: Path) -> None:
    double(project)
    first = reproduction.question("double")
    assert reproduction.question("double") == first
    (project / "params.yaml").write_text("scale: 2\n")
    second = reproduction.question("double")
    (project / "input.txt").write_text("5")
    assert len({first, second, reproduction.question("double")}) == 3


@pytest.fixture
def chain(project: Path) -> Path:
    """`quadruple` reads what `double` writes, `echo` does not."""
    more = """
  quadruple:
    cmd: cp out.txt twice.txt
    deps: [out.txt]
    outs: [twice.txt]
  echo:
    cmd: cp double.py echo.txt
    deps: [double.py]
    outs: [echo.txt]
"""
    (project / "dvc.yaml").write_text(DVC_YAML + more)
    dvc(project, "repro")
    return project


def fates() -> dict[str, tuple]:
    return {
        found.stage: (found.outcome, *found.after)
        for found in forecast.stages()
        if found.outcome is not Outcome.UNCHANGED
    }


def test_what_would_run_includes_what_follows_from_it(chain: Path) -> None:
    assert fates() == {}
    (chain / "input.txt").write_text("5")
    before = {path: path.read_bytes() for path in chain.iterdir() if path.is_file()}
    assert fates() == {"double": (Outcome.COMPUTED,), "quadruple": (Outcome.COMPUTED, "double")}
    assert {path: path.read_bytes() for path in chain.iterdir() if path.is_file()} == before


def test_what_the_cache_has_would_be_restored_and_nothing_after_it_would_run(chain: Path) -> None:
    (chain / "input.txt").write_text("5")
    dvc(chain, "repro")
    (chain / "input.txt").write_text("21")
    assert fates() == {"double": (Outcome.RESTORED,), "quadruple": (Outcome.RESTORED,)}
    dvc(chain, "repro")
    (chain / "twice.txt").unlink()
    assert fates() == {"quadruple": (Outcome.RESTORED,)}
    (chain / "out.txt").unlink()
    assert fates() == {"double": (Outcome.RESTORED,), "quadruple": (Outcome.RESTORED,)}
    dvc(chain, "repro")
    (chain / "out.txt").unlink()
    assert fates() == {"double": (Outcome.RESTORED,)}
    dvc(chain, "repro")
    dvc(chain, "gc", "-w", "-f")
    (chain / "input.txt").write_text("5")
    assert fates() == {"double": (Outcome.COMPUTED,), "quadruple": (Outcome.COMPUTED, "double")}


def test_while_dvc_repro_works_nothing_is_forecast(chain: Path) -> None:
    busy = {"write": {str(chain / "out.txt"): {"pid": os.getppid(), "cmd": "dvc repro"}}}
    (chain / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(busy))
    with pytest.raises(StippleError, match="`dvc repro` is at work here"):
        forecast.stages()


def test_while_a_stage_of_dvc_repro_reads_params_yaml_nobody_changes_it(project: Path) -> None:
    entered = []
    busy = {"read": {str(project / "params.yaml"): [{"pid": os.getppid(), "cmd": "dvc repro"}]}}
    (project / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(busy))
    with pytest.raises(StippleError, match="`dvc repro` is at work here"), reproduction.write_locked("params.yaml"):
        entered.append(True)
    (project / ".dvc" / "tmp" / "rwlock").unlink()
    with reproduction.write_locked("params.yaml"):
        entered.append(True)
    assert entered == [True]


def test_versions_are_those_that_could_come_back(chain: Path) -> None:
    def known() -> list[str]:
        return [path.read_text() for path in versions().get("out.txt", [])]

    assert known() == ["42\n"]
    (chain / "input.txt").write_text("5")
    dvc(chain, "repro")
    assert sorted(known()) == ["10\n", "42\n"]
    dvc(chain, "gc", "-w", "-f")
    assert known() == ["10\n"]
