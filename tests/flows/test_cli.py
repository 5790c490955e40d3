"""The command as people type it, right and wrong."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from dvc.repo import Repo
from safetensors.torch import save
from typer.testing import CliRunner, Result

from flows import cli
from tasks import settings
from tasks.clouds import generation
from tasks.clouds.artifacts import MODEL
from tasks.errors import StippleError
from tasks.pipeline import STAGES
from tasks.registry import versions
from tasks.registry.versions import CARD, CLIPS, REPORT
from tests.support import ROOT

DRAWN = ["--steps", "2", "--points", "40"]


def stipple(*words: str) -> Result:
    return CliRunner().invoke(cli.app, words)


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["generate", "-h"], ["toy", "-h"]])
def test_help_is_there_under_both_names(words: list[str]) -> None:
    assert stipple(*words).exit_code == 0


def test_every_argument_and_option_has_help_that_shows_all_of_itself() -> None:
    command = typer.main.get_command(cli.app)
    shown = {name: " ".join(stipple(name, "-h").output.replace("│", " ").split()) for name in command.commands}
    for name, one in command.commands.items():
        for parameter in one.params:
            assert parameter.help and parameter.help in shown[name], f"{name} {parameter.name}"


def test_it_says_its_version() -> None:
    assert stipple("--version").output == f"stipple {version('stipple-flow')}\n"


@pytest.mark.parametrize(
    "words",
    [["run"], ["run", "--dry-run"], ["retrain"], ["models"], ["rollback"], ["status"], ["cache"], ["serve-local"],
     ["generate", "a face"], ["models", "pull"], ["doctor"]],
    ids=" ".join,
)  # fmt: skip
def test_in_a_wrong_folder_every_command_says_the_same_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = stipple(*words).exception
    assert isinstance(error, StippleError)
    assert str(error) == "params.yaml is missing; run from the project's folder, or restore it with git"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["models"], ["status"], ["cache"], ["cache", "--check"], ["run", "--dry-run"]])
def test_what_is_said_is_said_as_json_too(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "dvc.yaml", "profiles", "tasks", "fm", "demo", "models", ".dvcignore"):
        (tmp_path / name).symlink_to(ROOT / name)
    Repo.init(str(tmp_path), no_scm=True)
    monkeypatch.chdir(tmp_path)
    said = stipple(*words, "--json")
    assert said.exit_code == 0, said.exception
    known = {
        "models": {"champion": None, "versions": [], "refused": []},
        "status": {"champion": None, "quarantine": []},
        "cache": {"bytes": 0, "stages": []},
        "cache --check": {"objects": 0, "damaged": []},
    }
    found = json.loads(said.output)
    if words[0] == "status":
        assert [stage["stage"] for stage in found.pop("next_run")] == list(STAGES)
    if words == ["run", "--dry-run"]:
        assert found[0] == {"stage": "frames", "outcome": "computed", "after": [], "compute": found[0]["compute"]}
        assert found[0]["compute"]["files"] == len(list((ROOT / "demo" / "clips").iterdir()))
        assert found[-1]["after"] == ["train"]
    else:
        assert found == known[" ".join(words)]


def test_the_doctor_knows_every_profile_and_that_the_demo_fits_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = json.loads(stipple("doctor", "--json").output)
    assert sorted(found["profiles"]) == settings.profiles(ROOT)
    assert found["profiles"]["demo"]["lacks"] is None and found["machine"]["cores"] >= 1
    if not found["machine"]["gpus"]:
        assert found["profiles"]["gpu"]["lacks"] == "needs 40 GB on a GPU, here are 0"
    page = stipple("doctor").output
    assert page.startswith("This machine: ") and "demo         fits" in page


def test_there_is_nothing_to_pull_for_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert stipple("models", "pull").output == "All is here: runs need the hub no more.\n"


@pytest.mark.parametrize("option", ["--output", "--npy", "--gif"])
def test_a_picture_of_an_unknown_kind_is_refused_with_the_known_ones(option: str) -> None:
    error = stipple("generate", "a face", option, "face.xyz").exception
    assert isinstance(error, StippleError)
    assert "face.xyz does not end in" in str(error) and "--output writes .png, --npy .npy and --gif .gif" in str(error)


def test_a_promoted_version_draws_by_its_name(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shutil.copytree(trained, tmp_path / "project")
    for name in ("params.yaml", "profiles"):
        (root / name).symlink_to(ROOT / name)
    monkeypatch.chdir(root)
    network = generation.load(root / MODEL).network
    content = {versions.MODEL: save(network.state_dict()), CARD: (root / MODEL).with_suffix(".json").read_bytes()}
    content |= {REPORT: b"{}", CLIPS: json.dumps({}).encode()}
    versions.publish(root, versions.Judgement("question", "rules", None, None, (), {}), content)
    answer = stipple("generate", "a circle", "--model", "v1", *DRAWN)
    assert answer.output == "Wrote result.png with models/registry/v1/model.safetensors\n", answer.exception
    assert (root / "result.png").is_file()
    unknown = stipple("generate", "a circle", "--model", "v2").exception
    assert "knows no v2; `stipple models` lists what it knows" in str(unknown)


def test_a_model_that_is_not_there_is_named_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = stipple("generate", "a circle", "--model", "nowhere/velocity.safetensors").exception
    assert isinstance(error, StippleError) and str(error).startswith("nowhere/velocity.safetensors is missing")
