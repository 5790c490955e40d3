"""Stage `frames` against a bare decode of the same files, and its memory from 10 to 1000 clips.

    python -m benchmarks.frames

`bare` is PyAV's loop over all frames of one file after the other, with its decoder's threads and nothing else. `floor`
decodes several files at once, as the stage does, converts the kept frames and encodes them, and forgets them: what no
stage that stores pictures can leave out. All take turns in processes of their own; the least of `ROUNDS` counts, in
wall time and in processor time. Writes benchmarks/results/frames.json.
"""

from __future__ import annotations

import resource
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks import harness
from benchmarks.harness import ROOT
from tasks import frames, settings
from tasks.clips import media

SETTINGS = settings.load(ROOT)
ROUNDS = 3
KINDS = ("bare", "floor", "stage")
CLIPS = (10, 100, 1000)
FILMED = 60

child = partial(harness.child, "benchmarks.frames")
"""`measure` in a process of its own."""


def main() -> None:
    demo = sorted((ROOT / "demo" / "clips").glob("*.mp4"))
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder, "large")
        for number in range(2):
            child("film", large / f"{number}.mp4")  # a large parent would show in its children's peak memory
        result: dict[str, Any] = {
            "time": {
                "demo clips, 256 × 256": compare(ROOT / "demo" / "clips"),
                f"2 clips of {FILMED} frames, 1280 × 720": compare(large),
            },
            "memory": {},
        }
        for count in CLIPS:
            many = Path(folder, f"{count}")
            many.mkdir()
            for number, clip in enumerate(islice(cycle(demo), count)):
                (many / f"{number:04d}.mp4").symlink_to(clip)
            measured = child("stage", many)
            result["memory"][f"{count} clips"] = {"rows": measured["rows"], "peak_mb": measured["peak_mb"]}
            print(count, measured)
    harness.write("frames", result, "av")


def film(path: Path, width: int = 1280, height: int = 720, count: int = FILMED) -> int:
    """Write an h264 video of drifting waves with a camera's noise."""
    path.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng(int(path.stem))
    noise = rng.normal(0, 3, (2 * height, width)).astype(np.float32)
    down, right = np.mgrid[:height, :width].astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            waves = 128 + 90 * np.sin((right + 5 * number) / 37) * np.cos((down - 3 * number) / 53)
            grain = noise[11 * number :][:height]
            picture = np.dstack([waves + grain, 255 - waves + grain, np.roll(waves, 40, 1) + grain])
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return count


def compare(folder: Path) -> dict[str, float]:
    """Seconds of the three, taking turns, and how many times as long as `bare` the other two took."""
    runs = [{what: child(what, folder) for what in KINDS} for _ in range(ROUNDS)]
    least = {
        f"{what}_{clock}_s": min(run[what][f"{clock}_s"] for run in runs) for what in KINDS for clock in ("wall", "cpu")
    }
    ratios = {
        f"{what}_{clock}_ratio": round(least[f"{what}_{clock}_s"] / least[f"bare_{clock}_s"], 2)
        for what in KINDS[1:]
        for clock in ("wall", "cpu")
    }
    print(folder.name, least | ratios)
    return {"rows": runs[0]["stage"]["rows"]} | least | ratios


def measure(what: str, path: str) -> dict[str, float]:
    """Two runs, of which the second has everything imported, and the peak memory of both."""
    folder = Path(path)
    if what == "film":
        return {"rows": film(folder)}
    for _ in range(2):
        with tempfile.TemporaryDirectory() as root:
            work = {"bare": bare, "floor": floor, "stage": partial(stage, root=Path(root))}[what]
            rows, wall, cpu = harness.timed(work, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": rows, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3), "peak_mb": round(peak)}


def bare(folder: Path) -> int:
    count = 0
    for path in sorted(folder.iterdir()):
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            count += sum(1 for _ in container.decode(video=0))
    return count


def floor(folder: Path) -> int:
    params = SETTINGS.params.frames

    def encoded(path: Path) -> int:
        return sum(1 for picture in media.pictures(path, params.every, params.max_side) if frames.jpeg(picture.image))

    with ThreadPoolExecutor(frames.WORKERS) as pool:
        return sum(pool.map(encoded, sorted(folder.iterdir())))


def stage(folder: Path, root: Path) -> int:
    chosen = SETTINGS.model_copy(update={"params": SETTINGS.params.model_copy(update={"input": str(folder)})})
    return frames.run(chosen, root)["rows"]


if __name__ == "__main__":
    harness.start(main, measure)
