"""The time that the bridge, and RETURNN's two ways, add to RASR's own criterion.

nn-trainers take turns: one is our pool's, two are RETURNN's, and one makes the same calls with no parent
(in_sprint.py). Each turn is a round over all segments of a batch; reported are percentiles of a segment's
time, and of the ratio to the turn without a parent in the same round. Corpus and model come from
examples/rasr. A machine that others use as well has nothing to say here.
"""
