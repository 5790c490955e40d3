"""The real checkpoints' architectures at their true sizes on a processor, with random weights.

    python -m benchmarks.full_size      # 6 GB of disk for a while, 3 minutes; writes benchmarks/results/full_size.json

FastVLM-0.5B, Qwen2.5-0.5B and CLIP ViT-B/32 are made, saved, and loaded by `from_pretrained` behind the pipeline's own
functions, on pictures of 1280 × 720. Each is a process of its own, whose largest memory is measured. It fails where a
batch says something else than its rows alone, or where a picture has other than 256 tokens.
"""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness, sizes
from benchmarks.harness import ROOT
from tasks import captions, embeddings, settings, summaries
from tasks.errors import Refused
from tasks.models import captioner, embedder, hf, summarizer
from tasks.settings import CaptionerCheckpoint, Checkpoint, GeneratorCheckpoint

COMMON: dict[str, Any] = {"revision": None, "dtype": "float32", "batch_size": 2}
CAPTIONER = CaptionerCheckpoint(model="captioner", quantization=None, max_new_tokens=6, image_side=1024, **COMMON)
SUMMARIZER = GeneratorCheckpoint(model="summarizer", quantization=None, max_new_tokens=6, **COMMON)
EMBEDDER = Checkpoint(model="embedder", **COMMON)
PROMPT = "Describe this face."
TEXTS = ["She looks to the left and smiles.", "He faces the camera. He is sad, and his hair is short and brown."]


def captions_at_size(root: Path) -> dict[str, Any]:
    library, own = hf.transformers(), root / CAPTIONER.model
    copied(own, "captioner")
    processor = library.AutoProcessor.from_pretrained(own)
    image_token = processor.tokenizer.convert_tokens_to_ids("<image>")
    library.FastVlmForConditionalGeneration(sizes.fast_vlm(image_token)).save_pretrained(own)
    loaded, load_s, _ = harness.timed(captioner.load_captioner, CAPTIONER, root)
    pictures = [sizes.jpeg(number) for number in range(2)]
    prepared = [captions._prepared(loaded, picture) for picture in pictures]
    tokens = int((loaded.tokens(PROMPT) == image_token).sum())
    together, seconds, _ = harness.timed(loaded, prepared, 2, PROMPT)
    alone = [loaded([picture], 1, PROMPT)[0] for picture in prepared]
    rows = captions.caption(pictures, checkpoint=CAPTIONER, prompt=PROMPT, root=root)
    assert tokens == 256, f"a picture has {tokens} tokens"
    assert together == alone, "a batch says something else than its pictures alone"
    return {
        "parameters": parameters(loaded.model), "picture_tokens": tokens, "load_s": load_s,
        "two_captions_of_6_tokens_s": seconds, "stage": outcomes(rows),
    }  # fmt: skip


def summaries_at_size(root: Path) -> dict[str, Any]:
    library, own = hf.transformers(), root / SUMMARIZER.model
    copied(own, "summarizer")
    copied(root / EMBEDDER.model, "embedder", weights=True)
    library.Qwen2ForCausalLM(library.Qwen2Config(**sizes.QWEN_05)).save_pretrained(own)
    loaded, load_s, _ = harness.timed(summarizer.load_summarizer, SUMMARIZER, root)
    together, seconds, _ = harness.timed(loaded, TEXTS, "Shorten.")
    alone = [loaded([text], "Shorten.")[0] for text in TEXTS]
    params = settings.load(ROOT).params.summaries.model_copy(update={"max_attempts": 1})
    rows = summaries.summarize(TEXTS, checkpoint=SUMMARIZER, embedder=EMBEDDER, params=params, root=root)
    assert together == alone, "a batch says something else than its texts alone"
    return {
        "parameters": parameters(loaded.model), "load_s": load_s, "two_summaries_of_6_tokens_s": seconds,
        "stage": outcomes(rows),
    }  # fmt: skip


def embeddings_at_size(root: Path) -> dict[str, Any]:
    library, own = hf.transformers(), root / EMBEDDER.model
    copied(own, "embedder")
    ends = {"bos_token_id": 49406, "eos_token_id": 49407}
    library.CLIPTextModelWithProjection(library.CLIPTextConfig(**ends)).save_pretrained(own)
    loaded, load_s, _ = harness.timed(embedder.load_embedder, EMBEDDER, root)
    together, seconds, _ = harness.timed(loaded, TEXTS)
    alone = np.concatenate([loaded([text]) for text in TEXTS])
    rows = embeddings.embed(TEXTS, checkpoint=EMBEDDER, root=root)
    assert together.shape == (2, 512) and np.allclose(together, alone, atol=1e-5), "a batch is not its texts alone"
    return {"parameters": parameters(loaded.model), "load_s": load_s, "two_s": seconds, "stage": outcomes(rows)}


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "FastVLM-0.5B": captions_at_size,
    "Qwen2.5-0.5B": summaries_at_size,
    "CLIP ViT-B/32": embeddings_at_size,
}


def copied(folder: Path, name: str, *, weights: bool = False) -> None:
    """What stands beside the weights of the demo's checkpoint, tokenizer and processor."""
    left_out = () if weights else ("*.safetensors", "config.json", "generation_config.json")
    shutil.copytree(ROOT / "models" / "demo" / name, folder, ignore=shutil.ignore_patterns(*left_out))


def parameters(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def outcomes(rows: list[bytes | Refused]) -> list[str]:
    return ["a value" if isinstance(row, bytes) else f"refused: {row}" for row in rows]


def measure(name: str, folder: str) -> dict[str, Any]:
    torch.manual_seed(0)
    found = PARTS[name](Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {key: round(value, 1) if isinstance(value, float) else value for key, value in found.items()} | {
        "peak_gb": peak
    }


def main() -> None:
    found: dict[str, Any] = {}
    for name in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = harness.child("benchmarks.full_size", name, folder)
        print(name, json.dumps(found[name]), flush=True)
    harness.write("full_size", found, "transformers", "timm")


if __name__ == "__main__":
    harness.start(main, measure)
