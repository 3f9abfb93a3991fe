"""refsprint-recognition: the calls of a recognizer to its feature scorer, without a search.

RASR's recognizers are not nn-trainer but speech-recognizer and flf-tool. They do not have this action, but it
makes their calls in their order: a reset, all features of a segment, and the scores frame by frame. Instead
of a search, it selects the best label of each frame.
"""

from __future__ import annotations

import itertools

import numpy as np

from shmbridge.errors import OptionError

from .configuration import Configuration
from .console import log
from .feature_scorer import FeatureScorer
from .features import Features
from .matrices import Matrix
from .segment_order import visit

__all__ = ["recognize"]


def recognize(config: Configuration) -> None:
    """Score the segments of the corpus.

    Raises:
        OptionError: an option is wrong.
        FileFormatError: a file is missing or malformed.
        CriticalError, FailedAssertionError: as in RASR.
    """
    features = Features(config.select("feature-extraction"))
    scorer = FeatureScorer(config)
    all_scores: dict[str, Matrix] = {}
    for segment in visit(config.select("corpus")):
        scores = scorer.score(features.matrix(segment, config.integer("feature-dimension", 0)))
        best = [label for label, _ in itertools.groupby(scores.argmin(axis=1).tolist())]
        log(f"segment {segment.full_name!r}: {len(scores)} frames, best labels {best}")
        all_scores[segment.full_name] = scores
    path = config.select("refsprint").string("scores-file")
    try:
        if path:
            np.savez(path, **all_scores)  # type: ignore[arg-type] # numpy's stub: allow_pickle
    except OSError as error:
        problem = f"refsprint.scores-file: cannot write {path!r}: {error.strerror} [refsprint-scorer]"
        raise OptionError(problem) from error
    scorer.exit()
