"""A stand-in for RASR's ``lattice-processor``: MMI and minimum error on word lattices.

    ref-lattice-processor --config=FILE --*.option=value ...

It reads the same options as the real program, and makes the same calls to Python in the same order: the
network is built, with SprintNnPythonLayer in it, before PythonControl's init; each segment is forwarded
before init_segment; exit is never called. The arcs are aligned with the network's scores, as with
``feature-scorer-type = nn-cached``. With that option it keeps, like RASR, the alignments of the last segment
by its name: the second of two requests for one segment receives those of the first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Optional

import numpy as np

from shmbridge.bliss.corpus import Segment
from shmbridge.bliss.lexicon import Lexicon
from shmbridge.errors import FileFormatError, OptionError
from shmbridge.lattices import Lattice, read_htk

from . import CALLBACK_VERSION
from .configuration import Configuration
from .console import FailedAssertionError, log, report
from .criterion import Model
from .features import Features
from .lattice_alignment import Alignments
from .lattice_criterion import LatticeCriterion
from .network import Network, input_dimension
from .program import run_program
from .python_control import PythonControl
from .segment_order import visit

__all__ = ["main"]

_TITLE = "lattice-processor"
_ACTIONS = ["read", "rescore", "linear-combination", "accumulate-discriminatively"]
_USAGE = """usage: ref-lattice-processor --config=FILE --*.option=value ...

A stand-in for RASR's lattice-processor. It supports these of RASR's options:

[lattice-processor]
actions = read,rescore,linear-combination,accumulate-discriminatively
selections = READER,RESCORER,COMBINATION,TRAINER    (names of the sections below)
[*.READER]
    readers=total
    lattice-archive.type=htk, .path=DIR, .suffix=.lat, .am-scale, .lm-scale
[*.RESCORER]
    nn-emission-rescorers=NN, distance-rescorers=ACCURACY (ME), pass-extractors=total
    segmentwise-feature-extraction.feature-extraction.file=NPZ    one matrix (dimension, time) per segment
[*.ACCURACY]
    distance-type=approximate-phone-accuracy, spoken-source=orthography
    approximate-phone-accuracy-lattice-builder.short-pauses-lemmata=WORD WORD ...
[*.COMBINATION]
    outputs=total (MMI), or total accuracy (ME)
    OUTPUT.scales=NN [ACCURACY] TOTAL
[*.TRAINER]
    criterion=MMI or ME, model-type=neural-network, estimator=dry-run or dummy, lattice-name=total
[*]
    class-labels.number-of-classes=N
    acoustic-model.mixture-set.feature-scorer-type=nn-cached (others too: the arcs are aligned by the network)
    on-error=ignore    skip a segment whose lattice cannot be read
    neural-network.links, LAYER.links, LAYER.layer-type, LAYER.dimension-input, LAYER.dimension-output
    pymod-path, pymod-name, pymod-config, and the options of corpus and lexicon: see refsprint --help
"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run as RASR's lattice-processor does.

    Args:
        arguments: the command line without the program's name, by default from sys.argv.

    Returns:
        The exit code: 0, or 1 after an error, which was printed.

    Raises:
        SystemExit: the user's module raised it.
    """
    return run_program(arguments, _USAGE, _run)


def _run(arguments: Sequence[str]) -> None:
    config = Configuration.from_arguments(arguments, _TITLE)
    log(f"stand-in for lattice-processor, callback version {CALLBACK_VERSION}")
    _Processor(config).run()


class _Processor:
    def __init__(self, config: Configuration) -> None:
        reader, rescorer, combination, trainer = _sections(config)
        self._config = config
        self._lexicon = Model(config).lexicon
        self._archive = _Archive(reader.select("lattice-archive"))
        self._features = Features(
            rescorer.select("segmentwise-feature-extraction").select("feature-extraction")
        )
        self._criterion = _criterion(self._archive.config, rescorer, combination, trainer, self._lexicon)
        trainer.choice("model-type", ("neural-network",), "")
        self._has_gradient = trainer.string("estimator", "dummy") != "dummy"
        mixtures = config.select("acoustic-model.mixture-set")
        self._keeps_alignments = mixtures.string("feature-scorer-type") == "nn-cached"
        self._kept: tuple[str, Optional[Alignments]] = ("", None)
        self._num_labels = config.select("class-labels").integer("number-of-classes", 0)
        if self._num_labels < len(self._lexicon.phonemes):
            raise OptionError(
                f"class-labels.number-of-classes is {self._num_labels}; it must be at least the number of "
                f"phonemes, {len(self._lexicon.phonemes)} [config-value]"
            )
        self._skips_errors = config.string("on-error") == "ignore"
        self._input_dimension = input_dimension(config)
        self._network = Network(config, self._input_dimension)
        self._control = PythonControl(config, "SegmentwiseNnTrainer")

    def run(self) -> None:
        """Process all segments."""
        for segment in visit(self._config.select("corpus")):
            try:
                lattice = self._archive.read(segment)
            except FileFormatError as error:
                if not self._skips_errors:
                    raise
                report("error", f"{error}; the segment is skipped [lattice]")
                continue
            self._process(segment, lattice)
        self._network.finalize()

    def _process(self, segment: Segment, lattice: Lattice) -> None:
        features = self._features.matrix(segment, self._input_dimension)
        output = self._network.forward(features)
        if output.shape[0] != self._num_labels:
            raise FailedAssertionError(
                f"the network has {output.shape[0]} outputs; number-of-classes is {self._num_labels} "
                "[refsprint-posteriors]"
            )
        self._control.call("init_segment", segment_name=segment.full_name)
        scores = np.ascontiguousarray(output.T, np.float64)
        name, alignments = self._kept
        kept = alignments if self._keeps_alignments and name == segment.full_name else None
        outcome = self._criterion(lattice, segment.orthography, self._lexicon, scores, kept)
        self._kept = (segment.full_name, None if outcome is None else outcome.alignments)
        if outcome is None:
            log(f"discard segment {segment.full_name!r}")
            return
        loss = float(np.float32(outcome.loss))
        self._control.call("notify_segment_loss", segment_name=segment.full_name, loss=loss)
        if self._has_gradient:
            # The top layer has no activation function of its own, and so receives no call.
            self._network.backpropagate(np.asfortranarray(outcome.error_signal.T, np.float32))


class _Archive:
    """HTK lattices in a folder, by full segment name."""

    def __init__(self, config: Configuration) -> None:
        config.choice("type", ("htk",), "")
        self.config = config
        self._path = config.required("path")

    def read(self, segment: Segment) -> Lattice:
        path = os.path.join(self._path, segment.full_name + self.config.string("suffix"))
        return read_htk(path, convert_base=False)


def _sections(config: Configuration) -> list[Configuration]:
    actions, selections = _words(config, "actions"), _words(config, "selections")
    if actions != _ACTIONS or len(selections) != len(actions):
        raise OptionError(
            f"actions is {','.join(actions)!r}, selections {','.join(selections)!r}; actions must be "
            f"{','.join(_ACTIONS)!r}, with one selection for each [config-value]"
        )
    return [config.select(selection) for selection in selections]


def _criterion(
    archive: Configuration,
    rescorer: Configuration,
    combination: Configuration,
    trainer: Configuration,
    lexicon: Lexicon,
) -> LatticeCriterion:
    is_mmi = trainer.choice("criterion", ("MMI", "ME"), "") == "MMI"
    parts = [
        name
        for option in ("nn-emission-rescorers", "distance-rescorers", "pass-extractors")
        for name in _words(rescorer, option)
    ]
    distances = _words(rescorer, "distance-rescorers")
    if len(parts) != 2 + len(distances) or len(distances) > 1 or not (is_mmi or distances):
        raise OptionError(
            f"the lattice parts are {' '.join(parts)!r}; there must be one of nn-emission-rescorers, one of "
            "pass-extractors, and for ME one of distance-rescorers between them [config-value]"
        )
    total = _scales(combination, trainer.string("lattice-name", "total"), len(parts))
    accuracy, pauses = [0.0] * len(parts), set[int]()
    if not is_mmi:
        distance = rescorer.select(distances[0])
        distance.choice("distance-type", ("approximate-phone-accuracy",), "")
        distance.choice("spoken-source", ("orthography",), "orthography")
        accuracy = _scales(combination, trainer.string("accuracy-name", "accuracy"), len(parts))
        builder = distance.select("approximate-phone-accuracy-lattice-builder")
        for word in builder.string("short-pauses-lemmata").split():
            for lemma in lexicon.find_lemmas((word,)):
                pauses |= {label for each in lemma.pronunciations for label in each.phonemes}
    if any(total[1:-1]) or any(accuracy[:1] + accuracy[2:]):
        raise OptionError(
            "the stand-in adds no accuracies to the total, and no scores to the accuracies: set these scales "
            "to 0 [config-value]"
        )
    return LatticeCriterion(
        is_mmi=is_mmi,
        acoustic_scale=total[0],
        lattice_scale=total[-1],
        accuracy_scale=accuracy[1],
        am_scale=_number(archive, "am-scale", archive.string("am-scale", "1")),
        lm_scale=_number(archive, "lm-scale", archive.string("lm-scale", "0")),
        short_pauses=frozenset(pauses),
    )


def _scales(combination: Configuration, output: str, count: int) -> list[float]:
    words = combination.select(output).string("scales").split()
    if output not in combination.string("outputs").split() or len(words) != count:
        raise OptionError(
            f"{combination.path}.{output}.scales is {' '.join(words)!r}; it must have {count} numbers, and "
            f"outputs must contain {output!r} [config-value]"
        )
    return [_number(combination, f"{output}.scales", word) for word in words]


def _number(config: Configuration, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"{config.path}.{name} is {text!r}; it must be a number [config-value]") from None


def _words(config: Configuration, name: str) -> list[str]:
    return [word for word in config.string(name).replace(",", " ").split() if word]


if __name__ == "__main__":
    sys.exit(main())
