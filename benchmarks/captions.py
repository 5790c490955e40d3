"""Captions and summaries: in batches against one by one, the same pictures, the same models, the same words?

    python -m benchmarks.captions [pictures]

Uses the models of params.yaml's profile on the first frame of each input clip, then the second, and so on. Both ways go
through the stages' own batch functions, model loaded and warm. Writes benchmarks/results/captions.json.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch

from tasks import captions, frames, settings, summaries
from tasks.models import loading
from tasks.store import tables

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "captions.json"


def pictures(chosen: settings.Settings, count: int) -> list[bytes]:
    """`count` encoded frames, taken from all clips in turn."""
    with tempfile.TemporaryDirectory() as folder:
        inside = chosen.params.model_copy(update={"input": str(ROOT / chosen.params.input)})
        frames.run(chosen.model_copy(update={"params": inside}), Path(folder))
        clips: dict[str, list[bytes]] = defaultdict(list)
        for frame in tables.read(Path(folder) / "data" / "frames.parquet", ["source", "image"]):
            clips[frame["source"]].append(frame["image"]["bytes"])
    return [picture for picture in chain.from_iterable(zip_longest(*clips.values())) if picture is not None][:count]


def seconds(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """How long `work` takes, by the clock and by the processor (which other programs disturb less), and its result."""
    began, cpu = time.perf_counter(), time.process_time()
    result = work()
    taken = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    return {name: round(value, 2) for name, value in taken.items()}, result


def compared(name: str, fn: Callable[[list], list[bytes]], items: list, batch: int) -> tuple[dict[str, Any], list[str]]:
    """Time `fn` over `items` in batches and one by one; also the texts of the batched way."""
    fn(items[:1])
    batches = [items[start : start + batch] for start in range(0, len(items), batch)]
    together, results = seconds(lambda: [result for few in batches for result in fn(few)])
    singly, single_results = seconds(lambda: [result for item in items for result in fn([item])])
    key = {"captions": "caption", "summaries": "summary"}[name]
    texts, single_texts = ([json.loads(value)[key] for value in values] for values in (results, single_results))
    measured = {
        "rows": len(items),
        "words_mean": round(sum(len(text.split()) for text in texts) / len(texts), 1),
        "batch_size": batch,
        "batched": together,
        "one_by_one": singly,
        "times_faster": {name: round(singly[name] / together[name], 1) for name in singly},
        "identical_texts": sum(a == b for a, b in zip(texts, single_texts, strict=True)),
    }
    print(f"{name}: {json.dumps(measured)}", flush=True)
    return measured, texts


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    chosen = settings.load(ROOT)
    profile, params = chosen.profile, chosen.params

    def caption(batch: list[bytes]) -> list[bytes]:
        return captions.caption(batch, checkpoint=profile.captioner, prompt=params.captions.prompt, root=ROOT)

    def summarize(batch: list[str]) -> list[bytes]:
        return summaries.summarize(
            batch, checkpoint=profile.summarizer, embedder=profile.embedder, params=params.summaries, root=ROOT
        )

    captioned, texts = compared("captions", caption, pictures(chosen, count), profile.captioner.batch_size)
    summarized, _ = compared("summaries", summarize, texts, profile.summarizer.batch_size)
    result = {
        "profile": params.profile,
        "captions": captioned,
        "summaries": summarized,
        "machine": {
            "device": str(loading.device()),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
