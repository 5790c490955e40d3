"""The true sizes of the real checkpoints, for weights that are random, and pictures to show them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from tasks.models import hf

QWEN_05 = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
           "num_key_value_heads": 2, "vocab_size": 152_000, "rope_theta": 1e6, "tie_word_embeddings": True}  # fmt: skip
QWEN_7 = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
          "num_key_value_heads": 4, "vocab_size": 152_128, "rope_theta": 1e6, "tie_word_embeddings": False}  # fmt: skip
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 6000}  # fmt: skip
VISION = {"model_type": "timm_wrapper", "architecture": "fastvit_mci3", "do_pooling": True, "global_pool": "avg"}
LARGE = {"hidden_size": 3072, "model_args": {"inference_mode": True}}
STAGES = {"layers": [1] * 5, "embed_dims": [8, 16, 32, 32, 64], "mlp_ratios": [3] * 5}
SMALL = {"hidden_size": 128, "model_args": {"inference_mode": True, **STAGES}}


def fast_vlm(image_token: int, *, tiny: bool = False) -> Any:
    """FastVLM-0.5B's configuration, which sees pictures of 1024 × 1024; or a tiny one's, of 128 × 128."""
    side = 128 if tiny else 1024
    return hf.transformers().FastVlmConfig(
        vision_config=VISION | (SMALL if tiny else LARGE),
        text_config={"model_type": "qwen2", **(TINY if tiny else QWEN_05)},
        image_token_index=image_token,
        image_seq_length=(side // 64) ** 2,
    )


def jpeg(number: int) -> bytes:
    """A picture of 1280 × 720 pixels that is no easier to decode than a photograph."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (90, 160, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((1280, 720), Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()
