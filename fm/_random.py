"""Random numbers for data on any device from one generator, wherever that is."""

import torch


def device_of(generator: torch.Generator | None) -> torch.device | None:
    """Where to draw: on the generator's device, or the default one."""
    return None if generator is None else generator.device
