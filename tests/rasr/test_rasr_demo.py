"""The lattices of examples/demo, with ref-lattice-processor and with RASR's lattice-processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasr_programs import LATTICE_PROCESSOR, NO_LATTICE_PROCESSOR, SAFETY_NET, environment

import shmbridge
from examples.demo import data, lattices, sprint
from examples.demo.model import AcousticModel


@pytest.mark.skipif(not LATTICE_PROCESSOR, reason=NO_LATTICE_PROCESSOR)
def test_both_programs_give_the_same_figures(tmp_path: Path) -> None:
    whole = data.load()
    corpus = data.Corpus(whole.labels, whole.train[:3], {})
    rng = np.random.default_rng(1)
    model = AcousticModel(corpus.train[0].features.shape[1], len(corpus.labels), rng)
    config_file = lattices.write(tmp_path / "lattices", corpus, lattices.make(corpus, model, rng))
    batch = next(data.batches(corpus.train, 3))
    posteriors, lengths = model.forward(batch.features, batch.lengths)
    results = []
    for path, variables in ((None, None), (LATTICE_PROCESSOR, environment())):
        with shmbridge.SprintInstancePool(
            sprint.lattice_executable(path),
            sprint.lattice_config(config_file, corpus.labels),
            env=variables,
            start_timeout=SAFETY_NET,
        ) as pool:
            names = [lattices.sprint_name(name) for name in batch.names]
            results.append(pool.get_batch_loss_and_error_signal(posteriors, lengths, names))
    stand_in, rasr = results
    assert not stand_in.skipped.any()
    np.testing.assert_allclose(stand_in.loss, rasr.loss, rtol=1e-5)
    np.testing.assert_allclose(stand_in.error_signal, rasr.error_signal, atol=1e-5)
    for loss, segment in zip(stand_in.loss, batch.segments):
        assert loss >= -len(segment.labels)
