"""MMI and minimum error through the pool, with ref-lattice-processor and with RASR's lattice-processor."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasr_programs import LATTICE_PROCESSOR, NO_LATTICE_PROCESSOR, SAFETY_NET, environment

import shmbridge
from examples import rasr
from examples.rasr.feature_cache import features
from examples.rasr.lattices import make_lattices
from shmbridge.bliss import read_corpus, read_lexicon
from shmbridge.lattices import Lattice, check_lattice, write_htk
from support.lattices import Oracle, make_task

SMALL = {"labels": 10, "segments": 4, "frames": 30}
LARGE = {"labels": 2000, "segments": 2, "frames": 400}
ARCS = {10: 13, 2000: 600}
# An ME loss may be near 0: a difference of accuracies, each of which has a rounding of its own.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


class LatticeSprint:
    """One of the two programs with the files of a task."""

    def __init__(self, name: str, folder: Path, size: dict[str, int]) -> None:
        self.name = name
        self.is_rasr = name == "lattice-processor"
        self.task = rasr.make_task(**size)
        self.files = rasr.write(folder, self.task, ARCS[size["labels"]])
        self.lattices = make_lattices(self.task, ARCS[size["labels"]])
        self.names = [segment.full_name for segment in self.task.segments[:-1]]
        self.too_short = self.task.segments[-1].full_name

    def pool(self, criterion: str, *sprint: str, **more: Any) -> shmbridge.SprintInstancePool:
        """Return a pool; `sprint` are further options for Sprint, without "--*."."""
        options = self.files.options(criterion)
        options["sprint_config"] += [f"--*.{option}" for option in sprint]
        if self.is_rasr:
            options.update(sprint_exec_path=LATTICE_PROCESSOR, env=environment())
        else:
            options["sprint_exec_path"] = [sys.executable, "-m", "shmbridge.refsprint.lattice_processor"]
        options.update(exit_timeout=SAFETY_NET, start_timeout=SAFETY_NET)
        return shmbridge.SprintInstancePool(**{**options, **more})

    def run(self, criterion: str, *options: str) -> None:
        """Run RASR's program without a pool."""
        words = (f"--*.{option}" for option in options)
        command = [LATTICE_PROCESSOR, f"--config={self.files.config(criterion)}", *words]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=SAFETY_NET, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def posteriors(self, names: list[str], seed: int = 0) -> tuple[np.ndarray, list[int]]:
        """Return log posteriors (time,batch,label) and the lengths."""
        lengths = [self.task.segment(name).frames for name in names]
        shape = (max(lengths), len(names), len(self.task.phonemes))
        logits = np.random.default_rng(seed).normal(0, 2, shape)
        return (logits - np.logaddexp.reduce(logits, 2)[:, :, None]).astype(np.float32), lengths

    def expected(self, criterion: str, name: str, posteriors: np.ndarray, **oracle: Any) -> Any:
        """Return loss and error signal of the oracle."""
        segment, lattice = self.task.segment(name), self.lattices[name]
        lexicon = {word.orthography: word.pronunciations for word in self.task.words}
        arcs = list(
            zip(lattice.sources.tolist(), lattice.targets.tolist(), lattice.words, lattice.language.tolist())
        )
        task = make_task(lattice.times.tolist(), arcs, [word.orthography for word in segment.words], lexicon)
        found = Oracle(task, posteriors, **oracle)
        return found.mmi() if criterion == "mmi" else found.minimum_error()

    def check(self, pool: Any, criterion: str, names: list[str], seed: int = 0, **oracle: Any) -> None:
        """Assert that a batch has the losses and error signals of the oracle."""
        posteriors, lengths = self.posteriors(names, seed)
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        for b, (name, length) in enumerate(zip(names, lengths)):
            expected_loss, expected_error = self.expected(criterion, name, posteriors[:length, b], **oracle)
            np.testing.assert_allclose(loss[b], expected_loss, **TOLERANCE, err_msg=name)
            np.testing.assert_allclose(error_signal[:length, b], expected_error, atol=1e-5, err_msg=name)
            assert not error_signal[length:, b].any()


@pytest.fixture(
    params=[
        "ref-lattice-processor",
        pytest.param(
            "lattice-processor", marks=pytest.mark.skipif(not LATTICE_PROCESSOR, reason=NO_LATTICE_PROCESSOR)
        ),
    ]
)
def program(request: pytest.FixtureRequest) -> str:
    """The name of each program."""
    return str(request.param)


@pytest.fixture
def sprint(program: str, tmp_path: Path) -> LatticeSprint:
    """Each program with the small task."""
    return LatticeSprint(program, tmp_path / "files", SMALL)


CRITERIA = pytest.mark.parametrize("criterion", ["mmi", "me"])


@CRITERIA
@pytest.mark.parametrize("children", [1, 2])
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["10-labels", "2000-labels"])
def test_losses_and_error_signals_are_those_of_the_oracle(
    program: str, tmp_path: Path, size: dict[str, int], children: int, criterion: str
) -> None:
    sprint = LatticeSprint(program, tmp_path / "files", size)
    with sprint.pool(criterion, num_instances=children) as pool:
        sprint.check(pool, criterion, sprint.names)
        sprint.check(pool, criterion, sprint.names[::-1], seed=1)
        assert (pool.stats().skipped, pool.stats().failed) == (0, 0)


@CRITERIA
@pytest.mark.parametrize("option", ["trainer.estimator=dummy", "posteriors.links="])
def test_the_losses_come_without_error_signals(sprint: LatticeSprint, criterion: str, option: str) -> None:
    """With a dummy, or with the Python layer on top, nothing is backpropagated to that layer."""
    posteriors, lengths = sprint.posteriors(sprint.names)
    with sprint.pool(criterion, option) as pool:
        loss = pool.get_batch_loss(posteriors, lengths, sprint.names)
        expected = [
            sprint.expected(criterion, name, posteriors[:length, b])[0]
            for b, (name, length) in enumerate(zip(sprint.names, lengths))
        ]
        np.testing.assert_allclose(loss, expected, **TOLERANCE)
        with pytest.raises(shmbridge.UsageError, match="an identity layer above the Python layer"):
            pool.get_batch_loss_and_error_signal(posteriors, lengths, sprint.names)


@CRITERIA
def test_the_error_signal_is_the_gradient_without_the_acoustic_scale(
    sprint: LatticeSprint, criterion: str
) -> None:
    scales = "0.5 0.7" if criterion == "mmi" else "0.5 0.0 0.7"
    options = {"acoustic_scale": 0.5, "lattice_scale": 0.7}
    with sprint.pool(criterion, f"combination.total.scales={scales}") as pool:
        sprint.check(pool, criterion, sprint.names, **options)
        name, step = sprint.names[0], 1e-2
        posteriors, lengths = sprint.posteriors([name])
        length = lengths[0]
        _, error_signal = sprint.expected(criterion, name, posteriors[:, 0], **options)
        place = np.unravel_index(np.abs(error_signal).argmax(), error_signal.shape)
        losses = []
        for sign in (1, -1):
            moved = posteriors[:length, 0].astype(np.float64)
            moved[place] += sign * step
            losses.append(sprint.expected(criterion, name, moved, **options)[0])
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx(0.5 * error_signal[place], rel=1e-3)


@CRITERIA
def test_arcs_may_be_aligned_by_a_mixture_set(sprint: LatticeSprint, criterion: str) -> None:
    if not sprint.is_rasr:
        pytest.skip("the stand-in aligns with the posteriors only")
    labels = len(sprint.task.phonemes)
    frames = max(segment.frames for segment in sprint.task.segments)
    means = np.array([[label % 7, (37 * label) % frames + 0.25] for label in range(labels)])
    with sprint.pool(criterion, "acoustic-model.mixture-set.feature-scorer-type=diagonal-maximum") as pool:
        for number, name in enumerate(sprint.names):
            rows = np.array(features(number, sprint.task.segment(name).frames))
            scores = -0.5 * ((rows[:, None] - means) ** 2).sum(2)
            sprint.check(pool, criterion, [name], alignment_scores=scores)
            sprint.check(pool, criterion, [name], seed=1, alignment_scores=scores)


@CRITERIA
def test_lattices_may_be_gzipped(sprint: LatticeSprint, criterion: str) -> None:
    for path in (sprint.files.folder / "lattices").rglob("*.lat"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    with sprint.pool(criterion) as pool:
        sprint.check(pool, criterion, sprint.names)


@CRITERIA
def test_lattices_may_be_in_rasrs_own_archive(sprint: LatticeSprint, criterion: str) -> None:
    if not sprint.is_rasr:
        pytest.skip("the stand-in reads HTK lattices only")
    archive = sprint.files.folder / "lattices.archive"
    writer = {"type": "fsa", "path": archive}
    options = ["actions=read,write", "selections=lattice-reader,lattice-writer"]
    options += ["lattice-writer.writers=total"]
    options += [f"lattice-writer.lattice-archive.{name}={value}" for name, value in writer.items()]
    sprint.run(criterion, *options)
    shutil.rmtree(sprint.files.folder / "lattices")
    # Its scores are not scaled again.
    reader = {**writer, "suffix": "", "am-scale": 1, "lm-scale": 0, "penalty-scale": 1}
    options = [f"lattice-reader.lattice-archive.{name}={value}" for name, value in reader.items()]
    with sprint.pool(criterion, *options) as pool:
        sprint.check(pool, criterion, sprint.names)
        sprint.check(pool, criterion, sprint.names[::-1], seed=1)


def test_a_segment_with_too_few_frames_is_skipped_without_effect_on_others(sprint: LatticeSprint) -> None:
    names = [sprint.names[0], sprint.too_short, sprint.names[1]]
    posteriors, lengths = sprint.posteriors(names)
    with sprint.pool("mmi") as pool:
        result = pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        assert result.skipped.tolist() == [False, True, False]
        sprint.check(pool, "mmi", sprint.names)


def test_rasr_does_not_skip_a_word_that_is_too_short_next_to_the_reference(sprint: LatticeSprint) -> None:
    """RASR gives an arc without an alignment the score 0: a probability of 1. The stand-in skips it."""
    name = sprint.names[0]
    lattice = sprint.lattices[name]
    posteriors, lengths = sprint.posteriors([name])
    expected, _ = sprint.expected("mmi", name, posteriors[: lengths[0], 0])
    long = next(word for word in sprint.task.words if min(map(len, word.pronunciations)) > 1)
    short = next(word for word in sprint.task.words if max(map(len, word.pronunciations)) == 1)
    # The long word has one frame; the short one has the other frames of the lattice's first word.
    added = len(lattice.times)
    longer = Lattice(
        [*lattice.times, lattice.times[0] + 0.01],
        [*lattice.sources, 0, added],
        [*lattice.targets, added, 1],
        [*lattice.words, long.orthography, short.orthography],
        language=[*lattice.language, 10, 10],
    )
    write_htk(longer, sprint.files.folder / "lattices" / f"{name}.lat")
    with sprint.pool("mmi") as pool:
        result = pool.get_batch_loss_and_error_signal(posteriors, lengths, [name])
        assert result.skipped.tolist() == [not sprint.is_rasr]
        assert result.loss[0] > expected + 1
    corpus = read_corpus(str(sprint.files.folder / "corpus.xml"))
    lexicon = read_lexicon(str(sprint.files.folder / "lattice-lexicon.xml"))
    segment = next(segment for segment in corpus.segments if segment.full_name == name)
    assert not list(check_lattice(lattice, segment, lexicon))
    assert [long.orthography in str(problem) for problem in check_lattice(longer, segment, lexicon)] == [True]


BAD = {
    "missing": None,
    "empty": b"",
    "garbage": b"\x00garbage\xff",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_lattice_that_cannot_be_read_ends_sprint(sprint: LatticeSprint, content: bytes | None) -> None:
    path = sprint.files.folder / "lattices" / f"{sprint.names[0]}.lat"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    names = sprint.names[:2]
    posteriors, lengths = sprint.posteriors(names)
    with sprint.pool("mmi") as pool:
        with pytest.raises(shmbridge.PeerGoneError) as error:
            pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        assert error.value.exit_code == 1
        sprint.check(pool, "mmi", sprint.names[1:])
    with sprint.pool("mmi", "on-error=ignore") as pool:
        result = pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        assert result.skipped.tolist() == [True, False]
        expected, _ = sprint.expected("mmi", names[1], posteriors[: lengths[1], 1])
        assert result.loss[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("on_error", ["immediate-exit", "ignore"])
def test_a_lattice_without_its_reference_ends_sprint(sprint: LatticeSprint, on_error: str) -> None:
    folder = sprint.files.folder / "lattices"
    one, other = sprint.names[:2]
    lattice = sprint.lattices[one]
    spoken = {word.orthography for word in sprint.task.segment(one).words}
    other_word = next(w.orthography for w in sprint.task.words if w.orthography not in spoken)
    lines = ["N=2 L=1", "I=0 t=0", f"I=1 t={lattice.times[-1]}", f"J=0 S=0 E=1 W={other_word}"]
    (folder / f"{one}.lat").write_text("\n".join(lines) + "\n")
    posteriors, lengths = sprint.posteriors([one])
    with sprint.pool("mmi", f"on-error={on_error}") as pool:
        with pytest.raises(shmbridge.PeerGoneError, match="empty"):
            pool.get_batch_loss_and_error_signal(posteriors, lengths, [one])
        sprint.check(pool, "mmi", [other])


@CRITERIA
def test_the_same_segment_may_follow_itself(sprint: LatticeSprint, criterion: str) -> None:
    """Sprint keeps the alignments of the last segment by its name: another one is passed in between."""
    one, other = sprint.names[:2]
    with sprint.pool(criterion) as pool:
        for seed, name in enumerate([one, one, other, other, other, one, one]):
            sprint.check(pool, criterion, [name], seed=seed)
        assert (pool.stats().segments, pool.stats().skipped, pool.stats().failed) == (7, 0, 0)


def test_a_corpus_of_one_segment_refuses_to_repeat_it(program: str, tmp_path: Path) -> None:
    sprint = LatticeSprint(program, tmp_path / "files", {**SMALL, "segments": 1})
    corpus = sprint.files.folder / "corpus.xml"
    before, _, rest = corpus.read_text().partition(f'<segment name="{rasr.task.TOO_SHORT}"')
    corpus.write_text(before + rest.partition("</segment>")[2])
    with sprint.pool("mmi") as pool:
        sprint.check(pool, "mmi", sprint.names)
        posteriors, lengths = sprint.posteriors(sprint.names)
        with pytest.raises(shmbridge.RemoteError, match="add a second segment to the corpus"):
            pool.get_batch_loss_and_error_signal(posteriors, lengths, sprint.names)
