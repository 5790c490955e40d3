"""The transformers library, with a torchvision that imports."""

import importlib
import importlib.util
import sys
from functools import lru_cache
from types import ModuleType

import torch

_torchvision_operators: list[torch.library.Library] = []


@lru_cache(maxsize=1)
def transformers() -> ModuleType:
    """The transformers library. Import it through here: it needs a torchvision that imports.

    A torchvision built for CUDA beside a CPU-only torch finds its compiled operators missing and refuses to import, and
    with it every model of transformers. Only their schemas are needed; this declares them, and only in that case.
    """
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "FRAGMENT")  # its declarations live as long as it does
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _torchvision_operators.append(library)
            importlib.import_module("torchvision")
    module = importlib.import_module("transformers")
    module.utils.logging.disable_progress_bar()
    return module
