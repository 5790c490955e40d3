"""The stages, in order: what each is called, what its rows are, and whether they may be computed elsewhere.

Stage `name` is the module `tasks.<name>`, whose `run(settings, root)` does it and returns a summary. dvc.yaml says what
makes it stale.
"""

import importlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks.errors import Damaged, StippleError
from tasks.progress import noted
from tasks.settings import Settings
from tasks.store.rows import MapBatches, Previous, no_previous

log = logging.getLogger("stipple.stages")

INPUT = "input"
"""Stands for the input folder, where the first stage's rows come from."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: in dvc.yaml, and of its module.
        rows_of: the stage that it makes a row for each row of, or `INPUT`; None where it has no rows of its own.
            One with rows computes them in batches: its `run` also takes `previous`, which tells where the last recorded
            version of a table is, and `map_batches`, which calls a function for each batch. One with a row for each of
            another stage's has `items(settings, root)`, which gives their keys.
        needs_disk: whether a batch has to be computed on this machine.
        trains: whether it belongs to the training, and not to the making of the data set.
    """

    name: str
    rows_of: str | None = None
    needs_disk: bool = False
    trains: bool = False


STAGES = {
    stage.name: stage
    for stage in (
        Stage("frames", rows_of=INPUT, needs_disk=True),
        Stage("points", rows_of="frames"),
        Stage("captions", rows_of="frames"),
        Stage("summaries", rows_of="captions"),
        Stage("embeddings", rows_of="summaries"),
        Stage("dataset"),
        Stage("train", trains=True),
        Stage("evaluate", trains=True),
        Stage("draw", trains=True),
    )
}
ROW_STAGES = tuple(stage.name for stage in STAGES.values() if stage.rows_of not in (None, INPUT))
"""Those with a row for each row of another stage."""


def compute(
    name: str, settings: Settings, root: Path, *, previous: Previous = no_previous, map_batches: MapBatches = map
) -> dict[str, Any]:
    """Do the work of stage `name`, whether or not it is stale, and return its summary."""
    if name not in STAGES:
        raise StippleError(f"there is no stage {name!r}; the stages are {', '.join(STAGES)}")
    options = {"previous": previous, "map_batches": map_batches} if STAGES[name].rows_of else {}
    run = partial(importlib.import_module(f"tasks.{name}").run, settings, root, **options)
    with noted(lambda: f"in {name}"):
        try:
            return run()
        except Damaged as damaged:
            log.warning("%s; %s begins again by itself", damaged, name)
            return run()
