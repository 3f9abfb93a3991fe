"""A Sprint that scores three segments of one frame, and then kills itself."""

from __future__ import annotations

import os
import signal

import numpy as np
from prelude import init

scorer = init(sprint_unit="PythonFeatureScorer")
scorer.init(input_dim=3, output_dim=5)
for _ in range(3):
    scorer.add_feature(feature=np.zeros(3, np.float32), time=0)
    scorer.compute(num_frames=1)
    scorer.get_scores(time=0)
    scorer.reset(num_frames=1)
os.kill(os.getpid(), signal.SIGKILL)
