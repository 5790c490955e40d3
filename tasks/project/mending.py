"""What a kill or a full disk left half written of DVC's own notes; DVC would stop at each of them."""

import logging

from tasks.project import dvc
from tasks.store import files

log = logging.getLogger("stipple.dvc")


def mend(repo: dvc.Repo) -> None:
    """Set aside what DVC cannot read. Nothing is lost with it: what dvc.lock said is in DVC's run cache too."""
    with dvc.notes(repo) as (damaged, run_cache):
        for path in damaged:
            log.warning("%s was damaged and is now %s", path.name, files.set_aside(path).name)
        for entry in run_cache:
            for draft in entry.glob("*.tmp"):
                draft.unlink()
            if not any(entry.iterdir()):
                entry.rmdir()
