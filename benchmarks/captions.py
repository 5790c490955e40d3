"""Captions and summaries: in batches against one by one, the same pictures, the same models, the same words?

    python -m benchmarks.captions [pictures]

Uses the models of params.yaml's profile on the first frame of each input clip, then the second, and so on. Both ways go
through the stages' own batch functions, model loaded and warm. Writes benchmarks/results/captions.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import ROOT
from tasks import captions, frames, settings, summaries
from tasks.models import devices
from tasks.store import tables


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
    result, wall, cpu = harness.timed(work)
    return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}, result


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
        "device": str(devices.device()),
    }
    harness.write("captions", result, "transformers")


if __name__ == "__main__":
    main()
