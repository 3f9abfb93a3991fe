"""Word lattices for Sprint's lattice criteria: read, write, build, prune and check them.

    lattice = shmbridge.lattices.from_n_best(hypotheses)
    shmbridge.lattices.write_htk(lattice, folder / f"{segment_name}.lat")

The files, from the inside to the outside:

    lattice.py   the lattice as arrays; a topological order
    htk.py       HTK's text format, plain or gzipped
    n_best.py    a lattice of the hypotheses of a decoder
    prune.py     arcs whose best path is far from the best
    check.py     a lattice against corpus and lexicon: what Sprint would stumble over
"""

from .check import Problem, check_lattice
from .htk import read_htk, write_htk
from .lattice import Lattice
from .n_best import Word, from_n_best
from .prune import prune

__all__ = ["Lattice", "Problem", "Word", "check_lattice", "from_n_best", "prune", "read_htk", "write_htk"]
