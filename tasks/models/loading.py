"""Loading a checkpoint once per process, with `from_pretrained` and nothing else.

A small checkpoint in a folder and a large one from the hub take the same path. One lock guards the accelerator: threads
prepare batches side by side, one runs.
"""

import gc
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import torch

from tasks import settings
from tasks.errors import StippleError
from tasks.models import checkpoints, hf, kernels
from tasks.models.devices import accelerated, device

accelerator = RLock()


def load(kind: type, checkpoint: settings.Checkpoint, root: Path) -> Any:
    with accelerator:
        return _loaded(kind, checkpoint, root, checkpoints.identity(checkpoint, root))


def release() -> None:
    """Give back the memory of what was loaded: a stage is done with its model when its rows are there."""
    _loaded.cache_clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@lru_cache
def _loaded(kind: type, checkpoint: settings.Checkpoint, root: Path, identity: str) -> Any:
    return kind(checkpoint, root)


def pretrained(kind: Any, checkpoint: settings.Checkpoint, root: Path, **options: Any) -> Any:
    try:
        return kind.from_pretrained(**checkpoints.locate(checkpoint, root).arguments(), **options)
    except StippleError:
        raise
    except Exception as error:  # a checkpoint fails to load in as many ways as it has files
        raise checkpoints.unreachable(checkpoint.model, error) from error


def model(
    kind: Any, checkpoint: settings.Checkpoint, root: Path, skipped: Sequence[str] = (), *, attention: Any = None
) -> Any:
    """Weights (safetensors only) on the device, in the checkpoint's precision; `skipped` modules stay unquantized."""
    dtype = getattr(torch, checkpoint.dtype)
    options: dict[str, Any] = {}
    if getattr(checkpoint, "quantization", None) == "nf4":
        options["quantization_config"] = hf.transformers().BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_use_double_quant=True,
            llm_int8_skip_modules=list(skipped),
        )
        options["device_map"] = {"": device()}
    options |= {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    if attention is not None:
        options["attn_implementation"] = attention
    loaded, info = pretrained(kind, checkpoint, root, **options)
    if info["missing_keys"]:
        lacking = ", ".join(sorted(info["missing_keys"])[:3])
        raise StippleError(
            f"{checkpoint.model} lacks weights that its architecture needs: {lacking}, …; download it again"
        )
    loaded = loaded.eval() if "device_map" in options else loaded.eval().to(device())
    if loaded.device.type == "cuda":
        kernels.quicken(loaded)
    return loaded


def gathered(batch_size: int | None) -> int:
    """Rows that are computed and kept together where at most `batch_size` of them are at work at a time.

    On an accelerator they are more, so that a row that has ended makes room for another one.
    """
    return 4 * (batch_size or 256) if accelerated() else batch_size or 16
