"""Faults in real runs of a small project. After each, one plain rerun must leave everything as if there had been none.

    python -m tests.faults                        # all of them: make faults
    python -m tests.faults --only kill-run-07     # one, by name
    python -m tests.faults --folder here          # keeps the projects there; a second call goes on from them

The rerun must leave the artifacts, dvc.lock and the registry of an undisturbed run, to the byte; both doors must then
have nothing to do; and no row that was kept before the fault may have been computed again, counted by what the models
were given (tests/faults/watch). A name seeds its fault's moment.
"""
