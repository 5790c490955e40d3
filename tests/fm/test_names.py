"""`import fm` is enough for every name, and loads no drawing library."""

import subprocess
import sys

import fm


def test_every_module_of_the_library_is_reached_from_its_name():
    said = subprocess.run(
        [
            sys.executable, "-c",
            "import sys, fm; assert 'matplotlib' not in sys.modules; "
            "fm.plots.clouds; print(fm.paths.linear().name, fm.toys.moons(3).x.shape, fm.training.train.__name__)",
        ],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said == "linear torch.Size([3, 2]) train\n"
    assert all(getattr(fm, name).__name__ == f"fm.{name}" for name in fm.MODULES)
    assert set(fm.MODULES) | set(fm.__all__) == set(dir(fm))
