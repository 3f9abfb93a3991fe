"""refsprint-recognition: what a recogniser asks of its feature scorer, without a search.

RASR recognises with other programs than nn-trainer (speech-recognizer, flf-tool). This action is not
theirs; its calls are, in the order of their offline recogniser: reset at the segment's beginning, all
features, and then the scores frame by frame. Instead of searching, it takes the best label of each frame.
The features come from ``feature-extraction.file``, or are zeros.

    refsprint.scores-file = NPZ   where to write the scores of all segments: (time, label) float32 under their
                                  full names
"""

from __future__ import annotations

import itertools

import numpy as np

from shmbridge.errors import OptionError

from .configuration import Configuration
from .console import log
from .feature_scorer import FeatureScorer, Vector
from .features import Features
from .segment_order import visit

__all__ = ["recognize"]


def recognize(config: Configuration) -> None:
    """Score the segments of the corpus.

    Errors:
        OptionError, FileFormatError: the options or files are not as they must be.
        CriticalError, FailedAssertionError: as in RASR.
    """
    features = Features(config.select("feature-extraction"))
    scorer = FeatureScorer(config)
    all_scores: dict[str, Vector] = {}
    for segment in visit(config.select("corpus")):
        scorer.reset()
        for feature in features.matrix(segment, config.integer("feature-dimension", 0)).T:
            scorer.add_feature(feature)
        scores = np.empty((0, scorer.labels), np.float32)
        while not scorer.is_empty:
            scores = np.vstack((scores, scorer.scores(scorer.flush())[None]))
        best = (
            [label for label, _ in itertools.groupby(scores.argmin(axis=1).tolist())] if len(scores) else []
        )
        log(f"segment {segment.full_name!r}: {len(scores)} frames, best labels {best}")
        all_scores[segment.full_name] = scores
    scorer.reset()
    _write(config.select("refsprint").string("scores-file"), all_scores)
    scorer.exit()


def _write(path: str, scores: dict[str, Vector]) -> None:
    if not path:
        return
    try:
        np.savez(path, **scores)  # type: ignore[arg-type] # which numpy's stub takes for allow_pickle
    except OSError as error:
        raise OptionError(
            f"refsprint.scores-file: cannot write {path!r}: {error.strerror} [refsprint-scorer]"
        ) from error
