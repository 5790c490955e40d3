"""The `stipple` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_RESULTS_DEFAULT_SERIALIZER", "json")
os.environ.setdefault("DO_NOT_TRACK", "1")

import typer

from tasks.errors import StippleError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
ROOT = Path()


@app.command()
def run() -> None:
    """Run the whole pipeline on this machine: clips in, a model that draws text out."""
    from tasks import settings

    settings.load(ROOT)
    _quiet_known_errors()
    from flows.pipeline import pipeline

    pipeline()
    print("Done. Look at data/drawings/ and data/evaluation/gallery.png; `dvc metrics show` prints the scores.")


@app.command()
def stage(name: str) -> None:
    """Run one stage of dvc.yaml; this is what `dvc repro` calls."""
    from flows.stages import compute

    summary = compute(name)
    print(f"{name}: " + ", ".join(f"{value} {key}" for key, value in summary.items()))


@app.command()
def generate(
    text: str,
    output: Annotated[Path, typer.Option(help="Where the picture goes (PNG).")] = Path("result.png"),
    steps: Annotated[int, typer.Option(min=1, help="Euler steps; each is one evaluation of the network.")] = 50,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale; 1 is none.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same points.")] = 0,
    points: Annotated[int, typer.Option(min=1, help="How many points to draw.")] = 1024,
    model: Annotated[Path, typer.Option(help="A trained model.")] = Path("data/model.safetensors"),
    npy: Annotated[Path | None, typer.Option(help="Also write the points, float32 [points, 2], here.")] = None,
    gif: Annotated[Path | None, typer.Option(help="Also write the way from noise to the face here.")] = None,
) -> None:
    """Draw a text as a cloud of points with the trained model."""
    from tasks import generation

    generation.write(
        text, ROOT, output, steps=steps, guidance=guidance, seed=seed, points=points, model=model, npy=npy, gif=gif
    )
    print(f"Wrote {output}")


def _quiet_known_errors() -> None:
    """Keep tracebacks of expected errors off the console: their one line is printed at the end, and the UI has the rest."""
    import logging

    import prefect.main  # noqa: F401  (sets up logging)
    from prefect.logging.handlers import PrefectConsoleHandler

    def unexpected(log: logging.LogRecord) -> bool:
        error = log.exc_info[1] if log.exc_info else None
        return not isinstance(error, StippleError)

    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, PrefectConsoleHandler):
                handler.addFilter(unexpected)


def main() -> None:
    try:
        app()
    except StippleError as error:
        print(f"stipple: {error}", file=sys.stderr)
        sys.exit(1)
