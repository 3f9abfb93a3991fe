"""A Sprint that calls its feature scorer out of order, and notes the errors.

Settings: the `dimension` of the features, and the number of `labels`.
"""

from __future__ import annotations

import numpy as np
from prelude import SEEN, attempt, init, save_seen, setting

dimension = int(setting("dimension"))
scorer = init(sprint_unit="PythonFeatureScorer")
scorer.init(input_dim=dimension, output_dim=int(setting("labels")))
feature = np.zeros(dimension, np.float32)
SEEN["size"] = scorer.get_feature_buffer_size()
SEEN["errors"] = [
    attempt(lambda: scorer.compute(num_frames=0)),
    attempt(lambda: scorer.get_scores(time=0)),
    attempt(lambda: scorer.add_feature(feature=feature, time=1)),
    attempt(lambda: scorer.add_feature(feature=feature[1:], time=0)),
    attempt(lambda: scorer.add_feature(feature=feature, time=0)),
    attempt(lambda: scorer.compute(num_frames=2)),
]
scorer.reset(num_frames=1)
for time in range(2):
    scorer.add_feature(feature=feature + time, time=time)
scorer.compute(num_frames=2)
for time in range(2):
    scorer.get_scores(time=time)
scorer.reset(num_frames=2)
SEEN["errors"].append(attempt(lambda: scorer.get_scores(time=0)))
scorer.exit()
save_seen()
