"""The executable: ``refsprint --config=FILE --*.option=value ...``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Optional

from shmbridge.errors import FileFormatError, OptionError

from . import CALLBACK_VERSION, console
from .configuration import Configuration

__all__ = ["main"]

_ACTIONS = ("python-control", "supervised-segmentwise-training", "refsprint-recognition")
_USAGE = """usage: refsprint --config=FILE --*.option=value ...

A stand-in for RASR's nn-trainer that takes the same options. Those that it knows:

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
--*.action=refsprint-recognition    not of nn-trainer: what a recogniser asks its feature scorer
    --*.feature-dimension=N
    --*.python-feature-scorer-output-dimension=LABELS   (default: the lexicon's phonemes)
    --*.refsprint.scores-file=NPZ   write one matrix (time, label) for each full segment name
--*.corpus.file=XML, with
    segments.file, segment-order, segment-order-look-up-short-name, remove-corpus-name-prefix,
    capitalize-transcriptions, gemenize-transcriptions,
    python-segment-order=true, python-segment-order-pymod-path, python-segment-order-pymod-name,
    python-segment-order-config, python-segment-order-with-segment-info
--*.lexicon.file=XML, --*.lexicon.normalize-pronunciation=false
--*.feature-extraction.file=NPZ     one matrix (dimension, time) for each full segment name
--*.training-criterion=ctc (default) or none, --*.input-in-log-space=true

Its own, not RASR's:

--*.refsprint.criterion=ctc, none or null    null returns the posteriors for the error signal
--*.refsprint.criterion-sleep=SECONDS        before each calculation, with the GIL held
--*.refsprint.criterion-busy=SECONDS         likewise, and busy
--*.refsprint.optional-silence=true          a lemma without orthography may stand between words
--*.refsprint.notifications=segmentwise      notify as SegmentwiseNnTrainer does
--*.refsprint.abort-after-training=true      end a training with SIGABRT when all is done
"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run as RASR's nn-trainer would.

    Args:
        arguments: the command line without the program's name; sys.argv by default.

    Returns:
        The exit code: 0, or 1 after an error, which was printed.

    Errors:
        SystemExit: from the user's module.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        _behave_as_embedded()
    if "--help" in arguments:
        sys.stdout.write(_USAGE)
        return 0
    try:
        _run(arguments)
    except console.FailedAssertionError as failure:
        console.abort(str(failure))
    except (console.CriticalError, FileFormatError, OptionError) as error:
        console.warn(f"critical error: {error} [refsprint-exit]")
        console.log("exiting...")
        return 1
    console.log("done")
    return 0


def _run(arguments: Sequence[str]) -> None:
    config = Configuration.from_arguments(arguments)
    action = config.choice("action", _ACTIONS, "")
    where = config.string("config") or "no file"
    console.log(f"stand-in for nn-trainer, callback version {CALLBACK_VERSION}: {action}, config {where}")
    # numpy takes most of the time to start: what needs it is imported only when the options are good.
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
            console.abort_finalized("Python was finalized before its last user [refsprint-exit]")


def _behave_as_embedded() -> None:
    # Sprint embeds Python without its signal handlers: Ctrl-C and a write into a closed pipe end the
    # process instead of raising KeyboardInterrupt and BrokenPipeError. (In Sprint, Ctrl-C does raise once
    # the user's code has imported the module signal. That is not modelled.)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
