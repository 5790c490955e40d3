"""The `stipple` command."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("DO_NOT_TRACK", "1")

import typer
from typer.core import TyperGroup

from flows import logs
from flows.local import stopping
from tasks import settings
from tasks.clouds import artifacts
from tasks.errors import StippleError
from tasks.progress import noted
from tasks.project import lock


class Commands(TyperGroup):
    """Commands that a signal ends in one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            stopping.end(stop)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ROOT = Path()
Json = Annotated[bool, typer.Option("--json", help="Say it as JSON, for scripts.")]


def _say_version(asked: bool) -> None:
    if asked:
        print(f"stipple {version('stipple-flow')}")
        raise typer.Exit


def _say(found: Any, page: Callable[[Any], Iterable[str]], as_json: bool) -> None:
    print(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(page(found)))


def _resolve(chosen: settings.Settings) -> None:
    """Have it written down which commits the profile's branches are, where that is not known yet."""
    from tasks.models import hub

    hub.resolve(chosen.profile, ROOT)


@app.callback()
def about(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """From clips to a model that draws what a text says, kept fresh."""


@app.command()
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what each stage would do.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: say it as JSON, for scripts.")] = False,
) -> None:
    """Run the whole pipeline on this machine: clips in, a model that draws text out."""
    if as_json and not dry_run:
        raise StippleError("--json is for --dry-run")
    chosen = settings.load(ROOT)
    from flows.local import temporary
    from tasks.pipeline import STAGES
    from tasks.project import forecast

    if dry_run:
        _say(forecast.next_run(chosen, ROOT), forecast.page, as_json)
        return
    with lock.hold(ROOT, "stipple run"):
        _resolve(chosen)
        if forecast.nothing_stale(STAGES):
            print("Nothing to do: every stage is up to date; data/evaluation/report.md has the scores.")
            return
        with noted(lambda: "on the way"), temporary.reporting():
            from flows.pipeline import pipeline

            pipeline()


@app.command()
def retrain() -> None:
    """Train on what is new, and promote the model only if it is better than the champion."""
    from flows.local import temporary
    from tasks.pipeline import STAGES
    from tasks.project import forecast, reproduction
    from tasks.registry import versions

    rules = settings.load(ROOT)
    with lock.hold(ROOT, "stipple retrain"):
        _resolve(rules)
        if forecast.nothing_stale([name for name, stage in STAGES.items() if not stage.trains]) and (
            reason := versions.nothing_new(rules, ROOT, reproduction.question("train"))
        ):
            print(f"Nothing to do: {reason}.")
            return
        with noted(lambda: "on the way"), temporary.reporting():
            from flows.retrain import retrain

            retrain()


models_app = typer.Typer()
app.add_typer(models_app, name="models", invoke_without_command=True)


@models_app.callback()
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the promoted models, with their scores and the champion marked, and why the last challenger was refused."""
    if context.invoked_subcommand is None:
        from tasks.project import status

        settings.load(ROOT)
        _say(status.models(ROOT), status.models_page, as_json)


@models_app.command()
def pull() -> None:
    """Fetch the checkpoints that the profile needs from the hub, after saying what they are."""
    from tasks.models import hub

    for line in hub.pull(settings.load(ROOT).profile, ROOT):
        print(line, flush=True)
    print("All is here: runs need the hub no more.")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has, and which profiles fit it."""
    from tasks.models import doctor

    settings.load(ROOT)
    _say(doctor.look(ROOT), doctor.page, as_json)


@app.command()
def rollback(
    version: Annotated[
        str | None, typer.Argument(help="As in `stipple models`; if not given, the champion's predecessor.")
    ] = None,
) -> None:
    """Make an earlier version the champion, or a later one again."""
    from tasks.registry import versions

    settings.load(ROOT)
    before, now = versions.rollback(ROOT, version)
    print(f"{now} is the champion again; {before} is kept")


@app.command()
def status(as_json: Json = False) -> None:
    """Say how fresh the champion is: new clips since, what is in quarantine, what the next run would do."""
    from tasks.project import forecast, status

    chosen = settings.load(ROOT)
    found = status.status(chosen, ROOT)
    if as_json:
        found["next_run"] = forecast.next_run(chosen, ROOT)
    _say(found, status.status_page, as_json)
    if not as_json:
        print(forecast.line(forecast.next_run(chosen, ROOT)))


@app.command()
def cache(
    prune: Annotated[bool, typer.Option("--prune", help="Remove the rows that no run could ask for.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Look for damaged objects in DVC's cache instead.")] = False,
    as_json: Json = False,
) -> None:
    """Show the computed rows that are kept for reuse, and how many of them today's and earlier tables have."""
    from tasks.project import dvc, row_cache, soundness

    chosen = settings.load(ROOT)
    if check:
        found = soundness.cache()
        _say(found, soundness.cache_page, as_json)
        raise typer.Exit(int(bool(found["damaged"])))
    if prune:
        with lock.hold(ROOT, "stipple cache --prune"):
            print(row_cache.prune(chosen, ROOT, dvc.versions()))
    else:
        _say(row_cache.usage(chosen, ROOT, dvc.versions()), row_cache.page, as_json)


@app.command()
def stage(name: Annotated[str, typer.Argument(help="As in dvc.yaml: frames, points, …")]) -> None:
    """Run one stage of dvc.yaml; this is what `dvc repro` calls."""
    from tasks import pipeline
    from tasks.project import dvc, reproduction
    from tasks.project.accounts import Account

    began = time.monotonic()
    with lock.hold(ROOT, f"stipple stage {name}"), reproduction.verify_unchanged(name):
        counts = pipeline.compute(name, settings.load(ROOT), ROOT, previous=dvc.previous)
    print(Account(name, reproduction.Outcome.COMPUTED, time.monotonic() - began, counts))


@app.command()
def serve_local() -> None:
    """Start a Prefect server on 127.0.0.1 with the deployments of prefect.yaml and a worker; Ctrl-C stops it all."""
    from flows.local.serving import serve

    settings.load(ROOT)
    serve()


@app.command()
def generate(
    text: Annotated[str, typer.Argument(help="What to draw, in quotes.")],
    output: Annotated[Path, typer.Option(help="Where the picture goes (PNG).")] = Path("result.png"),
    steps: Annotated[int, typer.Option(min=1, help="Euler steps; each is one evaluation of the network.")] = 50,
    guidance: Annotated[
        float, typer.Option(help="Classifier-free guidance: above 1 the drawing follows the text more closely.")
    ] = 1.5,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same points.")] = 0,
    points: Annotated[int, typer.Option(min=1, help="How many points to draw.")] = 1024,
    model: Annotated[
        str | None,
        typer.Option(
            help="A version, as in `stipple models`, or a model's file; else the champion, or the last trained."
        ),
    ] = None,
    npy: Annotated[
        Path | None,
        typer.Option(help="Also write the points here (NPY): float32, a row of x, y (down) and any colour for each."),
    ] = None,
    gif: Annotated[Path | None, typer.Option(help="Also write the way from noise to the drawing here (GIF).")] = None,
) -> None:
    """Draw what a text says as a cloud of points, with the champion or another trained model."""
    from tasks.clouds import generation
    from tasks.registry import versions

    for path, suffix in ((output, ".png"), (npy, ".npy"), (gif, ".gif")):
        if path is not None and path.suffix.lower() != suffix:
            raise StippleError(f"{path} does not end in {suffix}; --output writes .png, --npy .npy and --gif .gif")
    champion = None
    if model and (Path(model).suffix or Path(model).is_file()):
        file = Path(model)
    else:
        settings.load(ROOT)
        champion = None if model else versions.champion(ROOT)
        file = versions.read(ROOT, model) / versions.MODEL if model else champion or artifacts.MODEL
    generation.write(
        text, ROOT, output, steps=steps, guidance=guidance, seed=seed, points=points, model=file, npy=npy, gif=gif
    )
    print(f"Wrote {output} with {file}{', the champion' if champion else ''}")


@app.command()
def toy(
    name: Annotated[str, typer.Argument(help="checkerboard, 4-gaussians, 8-gaussians, moons, s-curve, or a picture.")],
    output: Annotated[Path | None, typer.Option(help="The folder for the pictures; toys/NAME if not given.")] = None,
    gif: Annotated[Path | None, typer.Option(help="Also write the way from noise to the toy or picture here.")] = None,
    coupling: Annotated[str, typer.Option(help="Of the flow that draws: ot or independent.")] = "ot",
    classes: Annotated[bool, typer.Option("--classes", help="Learn each class of the toy, and colour it.")] = False,
    light: Annotated[bool, typer.Option("--light", help="A picture's light gets the points, not its dark.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each flow.")] = 700,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same pictures.")] = 0,
) -> None:
    """Watch flows learn a toy, or any picture as a density, and see why their paths bend."""
    from tasks.clouds import toy_gallery

    output = output or Path("toys") / Path(name).stem
    for path in toy_gallery.run(
        name, output, gif=gif, coupling=coupling, classes=classes, light=light, steps=steps, seed=seed
    ):
        print(f"Wrote {path}")


def main() -> None:
    logs.on_console()
    try:
        app()
    except StippleError as error:
        print(f"stipple: {error}", file=sys.stderr)
        sys.exit(1)
