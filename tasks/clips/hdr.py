"""High dynamic range (PQ and HLG of ITU-R BT.2100) as ordinary sRGB."""

import numpy as np

PQ, HLG = 16, 18  # transfer characteristics, ITU-T H.273
WHITE = 203.0  # cd/m² of a white page in HDR, which becomes sRGB's white (ITU-R BT.2408)
PEAK = 1000.0  # cd/m² of the display that HLG is shown on
KNEE = 0.8  # of sRGB's white: what is brighter is compressed, what is darker stays as it is
BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # ITU-R BT.2087


def to_sdr(signal: np.ndarray, transfer: int) -> np.ndarray:
    """sRGB [H, W, 3], 8 bits, of an R'G'B' signal [H, W, 3] with BT.2020 primaries and 16 bits.

    Diffuse white becomes white; what is brighter keeps its hue and rolls off.
    """
    levels = np.arange(65536, dtype=np.float32) / 65535
    light = (_pq(levels) if transfer == PQ else _hlg(levels)).astype(np.float32)[signal]
    if transfer == HLG:  # the display's system gamma of 1.2
        light *= np.maximum(light @ np.array([0.2627, 0.678, 0.0593], np.float32), 1e-6)[..., None] ** 0.2
        light *= PEAK
    light = np.maximum(light @ BT2020_TO_BT709.T / WHITE, 0)
    peak = light.max(-1, keepdims=True)
    rolled = KNEE + (1 - KNEE) * (1 - np.exp((KNEE - peak) / (1 - KNEE)))
    light *= np.where(peak > KNEE, rolled / np.maximum(peak, KNEE), 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().clip(0, 255).astype(np.uint8)


def _pq(signal: np.ndarray) -> np.ndarray:
    """cd/m² of a PQ signal in [0, 1] (SMPTE ST 2084)."""
    root = signal ** (32 / 2523)
    return 10000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)


def _hlg(signal: np.ndarray) -> np.ndarray:
    """Scene light in [0, 1] of an HLG signal in [0, 1] (ARIB STD-B67)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
