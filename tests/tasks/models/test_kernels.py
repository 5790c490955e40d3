"""The layers that CUDA is given compute what the checkpoint's own layers compute."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tasks.models import hf, kernels
from tasks.models.captioner import load_captioner
from tests.support import tiny_models


def network(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "layer, quicker",
    [
        (nn.Conv2d(6, 10, 1), kernels.Pointwise),
        (nn.Conv2d(6, 10, 1, bias=False), kernels.Pointwise),
        (nn.Conv2d(6, 12, 3, padding=1, groups=6), kernels.Depthwise),
        (nn.Conv2d(6, 18, 7, stride=2, padding=3, groups=6, bias=False), kernels.Depthwise),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d),
        (nn.Conv2d(6, 12, 3, groups=2), nn.Conv2d),
        (nn.Conv2d(6, 10, 1, stride=2), nn.Conv2d),
        (nn.Conv2d(6, 10, 1, padding=1), nn.Conv2d),
        (nn.Conv2d(6, 12, 3, padding="same", groups=6), kernels.Depthwise),
        (nn.Conv2d(6, 12, 3, padding=1, groups=6, padding_mode="reflect"), nn.Conv2d),
    ],
    ids=str,
)
def test_a_layer_and_its_quicker_kind_agree(layer, quicker, layout):
    own = network(layer)
    other = copy.deepcopy(own)
    kernels.quicken(other)
    assert type(other[0]) is quicker
    x = torch.randn(2, 6, 9, 8).contiguous(memory_format=layout)
    with torch.inference_mode():
        torch.testing.assert_close(other(x), own(x), rtol=1e-5, atol=1e-5)


def test_a_norm_and_its_fused_kind_agree():
    library = hf.transformers()
    own = network(library.models.qwen2.modeling_qwen2.Qwen2RMSNorm(32, eps=1e-6))
    own[0].weight.data.normal_()
    other = copy.deepcopy(own)
    kernels.quicken(other)
    assert type(other[0]) is nn.RMSNorm
    x = 3 * torch.randn(4, 5, 32)
    torch.testing.assert_close(other(x), own(x))


def test_a_captioner_says_the_same_with_them(models_folder):
    captioner = load_captioner(tiny_models.settings().profile.captioner, models_folder)
    pictures = torch.randint(256, (3, captioner.side, captioner.side, 3), dtype=torch.uint8).numpy()
    said = captioner(list(pictures), 3, "What is it?")
    model = captioner.model
    seen = captioner.features(list(pictures))
    captioner.model = copy.deepcopy(model)
    try:
        kernels.quicken(captioner.model)
        captioner.language = captioner.model.model.language_model
        kinds = {type(layer) for layer in captioner.model.modules()}
        assert {kernels.Pointwise, kernels.Depthwise, nn.RMSNorm} <= kinds
        torch.testing.assert_close(captioner.features(list(pictures)), seen, rtol=1e-4, atol=1e-5)
        assert captioner(list(pictures), 3, "What is it?") == said
    finally:
        captioner.model, captioner.language = model, model.model.language_model
