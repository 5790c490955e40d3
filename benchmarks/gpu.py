"""Every stage on one accelerator, with random weights of the real checkpoints' sizes.

    python -m benchmarks.gpu [FILE]      # writes benchmarks/results/gpu.json, or FILE; needs what `make run` installs

Every part runs in a process of its own and for `LIMIT` seconds at most; a part that fails or takes longer says so, and
the others stand. Without an accelerator the same code runs at tiny sizes, to see that it works, and writes to
.stipple/benchmarks instead. Random weights end no text, so every one is as long as allowed; where texts are to end at
different times, a token that ends one comes by chance.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness, sizes
from benchmarks.harness import ROOT
from tasks import captions, points, settings
from tasks.clouds import density, drawing, fitting
from tasks.models import devices, greedy, hf, kernels, loading
from tasks.models.captioner import Captioner
from tasks.models.summarizer import Summarizer

LIMIT = 110  # seconds of a part
REAL = devices.device().type == "cuda"
DRY_RUN = ROOT / ".stipple" / "benchmarks" / "gpu.json"
PROMPT = "Describe this face in 200 to 300 words."


def part(name: str) -> dict[str, Any]:
    torch.manual_seed(0)
    return PARTS[name]()


def captioner(rows: int | None, tokens: int) -> Captioner:
    """FastVLM-0.5B with random weights, the demo's tokenizer, and no end."""
    library, given = hf.transformers(), settings.load(ROOT).profile.captioner
    assert isinstance(given, settings.CaptionerCheckpoint)
    made = Captioner.__new__(Captioner)
    made.side, made.rows = (1024 if REAL else 128), rows
    made.processor = loading.pretrained(library.AutoProcessor, given, ROOT)
    made.tokenizer = made.processor.tokenizer
    image_token = made.tokenizer.convert_tokens_to_ids("<image>")
    made.processor.num_additional_image_tokens, made.processor.patch_size = 0, 64
    config = sizes.fast_vlm(image_token, tiny=not REAL)
    made.model = on_device(lambda: library.FastVlmForConditionalGeneration(config))
    made.language = made.model.model.language_model
    made.language.set_attn_implementation(greedy.register())
    if REAL:
        kernels.quicken(made.model)
        made.model.model.vision_tower.to(memory_format=torch.channels_last)
    endless(made, tokens)
    return made


def on_device(build: Callable[[], Any]) -> Any:
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if REAL else torch.float32)
    try:
        with devices.device():
            return build().eval()
    finally:
        torch.set_default_dtype(dtype)


def endless(model: Captioner | Summarizer, tokens: int) -> None:
    """Let every text be of `tokens` tokens."""
    model.model.generation_config = hf.transformers().GenerationConfig(
        do_sample=False, max_new_tokens=tokens, eos_token_id=[model.model.get_output_embeddings().out_features - 1],
        pad_token_id=0,
    )  # fmt: skip


class Ending(torch.nn.Module):
    """A head that ends each text by chance, after `mean` tokens on average."""

    def __init__(self, head: torch.nn.Module, mean: float) -> None:
        super().__init__()
        self.head, self.chance, self.out_features = head, 1 / mean, head.out_features

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.head(hidden)
        ends = torch.rand(len(logits), device=logits.device) < self.chance
        logits[:, -1] = torch.where(ends, torch.inf, -torch.inf)
        return logits


def measure_captions() -> dict[str, Any]:
    count, tokens = (2048, 250) if REAL else (4, 8)
    made = captioner(None, tokens)
    pictures = ([*map(sizes.jpeg, range(min(64, count)))] * count)[:count]
    captions._ask(made, pictures[: min(32, count)], PROMPT, again=False)  # what happens once is not timed
    whole = seconds(lambda: captions._ask(made, pictures, PROMPT, again=False))
    prepared = ([captions._prepared(made, picture) for picture in pictures[:64]] * count)[:count]
    ready = seconds(lambda: made(prepared, count, PROMPT))
    with torch.inference_mode():
        tower = seconds(lambda: made.features(prepared[: min(256, count)]))
    found = {
        "captions": count, "tokens_each": tokens, "captions_per_s": count / whole,
        "captions_per_s_with_pictures_prepared": count / ready, "busy": ready / whole,
        "pictures_through_the_tower_per_s": min(256, count) / tower, "peak_gb": peak(),
        "identical_to_generate": same(made, prepared[: min(32, count)]),
    }  # fmt: skip
    made.model.set_output_embeddings(Ending(made.model.get_output_embeddings(), tokens * 1.1))
    endless(made, tokens * 2)
    said = []
    decode = greedy.decode

    def counted(*given: Any, **more: Any) -> list[list[int]]:
        said.extend(decode(*given, **more))
        return said

    greedy.decode = counted
    ragged = seconds(lambda: captions._ask(made, pictures, PROMPT, again=False))
    lengths = torch.tensor([len(tokens) for tokens in said]).float()
    return found | {
        "ragged_captions_per_s": count / ragged,
        "ragged_tokens_each": lengths.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist(),
        "ragged_tokens_per_s": float(lengths.sum()) / ragged, "tokens_per_s": count * tokens / whole,
    }  # fmt: skip


def same(made: Captioner, prepared: list[np.ndarray]) -> float:
    """The share of texts that `generate` gives as well."""
    found = made(prepared, len(prepared), PROMPT)
    own, made.language = made.language, None  # what `greedy` does not support is left to `generate`
    expected = made(prepared, len(prepared), PROMPT)
    made.language = own
    return float(np.mean([one.text == other.text for one, other in zip(found, expected, strict=True)]))


def summarizer(tokens: int) -> Summarizer:
    """Qwen2.5-7B with random weights, the demo's tokenizer, and no end."""
    library, given = hf.transformers(), settings.load(ROOT).profile.summarizer
    assert isinstance(given, settings.GeneratorCheckpoint)
    made = Summarizer.__new__(Summarizer)
    made.tokenizer, made.rows, made.markers = loading.pretrained(library.AutoTokenizer, given, ROOT), None, []
    config = library.Qwen2Config(**(sizes.QWEN_7 if REAL else sizes.TINY), attn_implementation=greedy.register())
    made.model = on_device(lambda: library.Qwen2ForCausalLM(config))
    made.language = made.model.model
    if REAL:
        kernels.quicken(made.model)
    endless(made, tokens)
    return made


def measure_summaries() -> dict[str, Any]:
    count, tokens = (512, 60) if REAL else (4, 8)
    return summaries_of(summarizer(tokens), count, tokens)


def summaries_of(made: Summarizer, count: int, tokens: int) -> dict[str, Any]:
    text = "She looks to the left and smiles. " * 40
    asked = made.tokenizer(text).input_ids[: 300 if REAL else 20]
    texts = [made.tokenizer.decode(asked)] * count
    made(texts[: min(16, count)], "Shorten.")
    wall = seconds(lambda: made(texts, "Shorten."))
    return {"summaries": count, "tokens_in": len(asked), "tokens_out": tokens,
            "summaries_per_s": count / wall, "peak_gb": peak()}  # fmt: skip


def measure_summaries_nf4() -> dict[str, Any]:
    """As on a card of 24 GB: the rest of this one's memory is not given out."""
    count, tokens = (256, 60) if REAL else (4, 8)
    made = summarizer(tokens)
    if REAL:
        quantize(made.model.model)
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(24e9 / whole)
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.mem_get_info = lambda _: (int(24e9) - torch.cuda.memory_reserved(), int(24e9))
    found = {"weights_gb": torch.cuda.memory_allocated() / 1e9 if REAL else None}
    for way, quantized in (("operation by operation", True), ("as a graph", False)):
        made.model.is_quantized = quantized
        try:
            found[way] = summaries_of(made, count, tokens)
        except Exception as error:
            found[way] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return found


def quantize(model: torch.nn.Module) -> None:
    """Its linear layers to NF4 with double quantization, as `from_pretrained` makes them."""
    import bitsandbytes

    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, torch.nn.Linear):
                small = bitsandbytes.nn.Linear4bit(
                    layer.in_features, layer.out_features, layer.bias is not None, torch.bfloat16,
                    compress_statistics=True, quant_type="nf4", device="meta",
                )  # fmt: skip
                small.weight = bitsandbytes.nn.Params4bit(
                    layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
                ).to("cuda")
                small.bias = layer.bias
                setattr(module, name, small)
    torch.cuda.empty_cache()


def measure_others() -> dict[str, Any]:
    """The stages that have no share in the table, for what 1,000 frames take: points, embeddings, drawings."""
    count = 512 if REAL else 4
    pictures = [(f"{number:064x}", sizes.jpeg(number % 8)) for number in range(count)]
    place = settings.load(ROOT).params.points.model_dump()
    points.place(pictures[:2], **place, seed=0)
    placed = seconds(lambda: points.place(pictures, **place, seed=0))
    library = hf.transformers()
    clip = on_device(lambda: library.CLIPTextModelWithProjection(library.CLIPTextConfig())).float()
    ids = torch.randint(1000, (4096 if REAL else 8, 77))

    def embed() -> None:
        with torch.inference_mode():
            for few in ids.split(1024):
                clip(input_ids=few.to(devices.device())).text_embeds.cpu()

    embed()
    data = training_data(16)
    recipe = settings.load(ROOT).params.train.recipe("latent").model_copy(update={"steps": 8})
    drawn = fitting.fit(
        "latent", recipe, data, torch.arange(16), seed=0, autoencoder=ROOT / "models" / "demo" / "autoencoder"
    ).network.to(devices.device())
    number = 256 if REAL else 2
    conditions = torch.randn(number, 512)

    def draw() -> None:
        drawing.draw(drawn, conditions, 1024, steps=20, guidance=1.5, seed=0)

    draw()
    return {
        "points_per_s": count / placed, "embeddings_per_s_without_tokenizer": len(ids) / seconds(embed),
        "drawings_per_s": number / seconds(draw),
    }  # fmt: skip


def training_data(frames: int) -> dict[str, Any]:
    """Of frames with random maps and texts."""
    rng, maps = np.random.default_rng(0), []
    for _ in range(frames):
        weights = rng.random((256, 256))
        maps.append(points.encode(weights * (rng.random((256, 256)) < 0.05)))
    return {
        "density": density.from_maps(maps), "embeddings": torch.randn(frames, 512), "wordings": [[]] * frames,
        "wording_embeddings": torch.empty(0, 512), "num_points": 1024, "point_clouds": torch.zeros(1, 1, 2),
    }  # fmt: skip


def measure_training() -> dict[str, Any]:
    """Steps a second of three recipes, the default one with the demo's autoencoder, on 1,000 frames."""
    frames = 1000 if REAL else 8
    data, found = training_data(frames), {}
    for network, steps in (("latent", 2000), ("film", 120), ("set-film", 120)):
        steps = steps if REAL else 8
        recipe = settings.load(ROOT).params.train.recipe(network).model_copy(update={"steps": steps})
        marks: list[float] = []
        fitting.fit(
            network,
            recipe,
            data,
            torch.arange(frames),
            seed=0,
            autoencoder=ROOT / "models" / "demo" / "autoencoder" if network == "latent" else None,
            on_step=lambda _, marks=marks: marks.append(time.perf_counter()),
        )
        half = marks[steps // 2 :]
        found[f"{network}_steps_per_s"] = (len(half) - 1) / (half[-1] - half[0])
    return found | {"peak_gb": peak()}


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    if REAL:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak() -> float | None:
    return torch.cuda.max_memory_allocated() / 1e9 if REAL else None


def main(target: Path) -> None:
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if REAL else "cpu, tiny sizes"}
    for name in PARTS:
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name]
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, ValueError, IndexError) as error:
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        print(name, json.dumps(found[name]), flush=True)
        harness.write(target.stem, found, "transformers", "timm", folder=target.parent)


PARTS = {
    "captions": measure_captions,
    "summaries": measure_summaries,
    "summaries_nf4": measure_summaries_nf4,
    "training": measure_training,
    "others": measure_others,
}

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--part", name]:
            print(
                json.dumps(
                    {key: round(value, 3) if isinstance(value, float) else value for key, value in part(name).items()}
                )
            )
        case [file]:
            main(Path(file))
        case _:
            main(harness.RESULTS / "gpu.json" if REAL else DRY_RUN)
