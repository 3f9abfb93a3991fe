"""The time that shmbridge, and RETURNN's two ways, add to RASR's own criterion.

nn-trainers take turns: shmbridge's, RETURNN's two, and one that makes the same calls without a parent
(in_sprint.py), for each way of driving it. A turn is a round over all segments of a batch. The results are
percentiles of a segment's time, and of its ratio to the turn without a parent in the same round. Corpus and
model come from examples/rasr. Figures of a machine with much other load are meaningless.
"""
