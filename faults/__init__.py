"""Faults, put into real runs of a small project: after each, one plain rerun must make everything as it would have been.

python -m faults                        # all of them; make faults
python -m faults --only kill-run-07     # one, by name
"""
