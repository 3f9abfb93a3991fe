"""The executable: ``refsprint --config=FILE --*.option=value ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Optional

from . import CALLBACK_VERSION, console
from .configuration import Configuration
from .program import run_program

__all__ = ["main"]

_ACTIONS = ("python-control", "supervised-segmentwise-training", "refsprint-recognition")
_USAGE = """usage: refsprint --config=FILE --*.option=value ...

A stand-in for RASR's nn-trainer. It supports these of RASR's options:

--*.action=python-control
    --*.pymod-path=DIR --*.pymod-name=MODULE --*.pymod-config=TEXT
    --*.python-control-loop-type=python-control-loop (default), or iterate-corpus
    --*.extract-features=false      (iterate-corpus; or name a file with features)
--*.action=supervised-segmentwise-training
    --*.trainer=feed-forward-trainer --*.estimator=dry-run --*.buffer-type=utterance --*.shuffle=false
    --*.python-control-enabled=true --*.buffer-size=FRAMES
    --*.parameters-old=NAME --*.parameters-new=NAME --*.parameter-file-symbolic=true
    --*.neural-network.links='0->LAYER' --*.LAYER.links=NEXT --*.LAYER.dimension-output=N
    --*.LAYER.layer-type=python, identity (default), softmax or linear+softmax
--*.action=refsprint-recognition    (not in nn-trainer: the calls of a recognizer to its feature scorer)
    --*.feature-dimension=N
    --*.python-feature-scorer-output-dimension=LABELS   (default: number of phonemes in the lexicon)
    --*.refsprint.scores-file=NPZ   output: one matrix (time, label) per full segment name
--*.corpus.file=XML, with
    segments.file, segment-order, segment-order-look-up-short-name, remove-corpus-name-prefix,
    capitalize-transcriptions, gemenize-transcriptions,
    python-segment-order=true, python-segment-order-pymod-path, python-segment-order-pymod-name,
    python-segment-order-config, python-segment-order-with-segment-info
--*.lexicon.file=XML, --*.lexicon.normalize-pronunciation=false
--*.feature-extraction.file=NPZ     one matrix (dimension, time) per full segment name
--*.training-criterion=ctc (default) or none, --*.input-in-log-space=true

and these options of its own:

--*.refsprint.criterion=ctc, none or null    null: loss 0, and the posteriors as the error signal
--*.refsprint.criterion-sleep=SECONDS        sleep before each calculation, holding the GIL
--*.refsprint.criterion-busy=SECONDS         use the CPU before each calculation, holding the GIL
--*.refsprint.optional-silence=true          a silence may occur between words
--*.refsprint.notifications=segmentwise      notify as SegmentwiseNnTrainer does
--*.refsprint.abort-after-training=true      end with SIGABRT after a complete training
"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run as RASR's nn-trainer does.

    Args:
        arguments: the command line without the program's name, by default from sys.argv.

    Returns:
        The exit code: 0, or 1 after an error, which was printed.

    Raises:
        SystemExit: the user's module raised it.
    """
    return run_program(arguments, _USAGE, _run)


def _run(arguments: Sequence[str]) -> None:
    config = Configuration.from_arguments(arguments)
    action = config.choice("action", _ACTIONS, "")
    where = config.string("config") or "no file"
    console.log(f"stand-in for nn-trainer, callback version {CALLBACK_VERSION}: {action}, config {where}")
    # The import of numpy takes most of the start. It happens only if the options are valid.
    if action == "python-control":
        from .python_control import PythonControl

        loops = ("python-control-loop", "iterate-corpus")
        loop = config.choice("python-control-loop-type", loops, loops[0])
        control = PythonControl(config, "NnTrainer.pythonControl")
        if loop == "iterate-corpus":
            control.iterate_corpus()
        else:
            control.run_control_loop()
        control.exit()
    elif action == "refsprint-recognition":
        from .recognition import recognize

        recognize(config)
    else:
        from .trainer import train

        train(config)
        if config.select("refsprint").boolean("abort-after-training", False):
            console.abort("Python was finalized before its last user [refsprint-exit]", finalize=True)


if __name__ == "__main__":
    sys.exit(main())
