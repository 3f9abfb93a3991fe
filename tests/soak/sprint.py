"""The Sprint of the soak: it checks its input, and answers, raises, dies or hangs according to the plan.

It takes --soak="JSON": seed, chances (see segments.does), folder, and way ("loop" or "iterate").
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import segments
from segments import Does

_OPTIONS = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
_CONFIG = _OPTIONS["*.pymod-config"]
sys.path.insert(0, _OPTIONS["*.pymod-path"])

import sprint_entry  # noqa: E402

_SOAK = json.loads(_OPTIONS["soak"][1:-1])
_SEED = _SOAK["seed"]
_FOLDER = Path(_SOAK["folder"])
_DEATHS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, None)


def callback(command: str, **arguments: Any) -> Any:
    """The behaviour of Sprint's own callback."""
    if command == "version":
        return "<version>soak</version>"
    if command == "get_orthography_by_segment_name":
        return "word "
    if command == "export_allophone_state_fsa_by_segment_name":
        n_states, edges, weights = segments.automaton_of(arguments["segment_name"])
        return n_states, len(weights), edges.reshape(-1), weights
    if command == "calculate_criterion":
        return criterion(arguments["segment_name"], arguments["posteriors"])
    raise ValueError(command)


def criterion(name: str, posteriors: segments.Array) -> tuple[Any, Any]:
    """Return loss and error signal of (label,time) posteriors."""
    number = -int(posteriors[0, 0])
    how = segments.draw(_SEED, number, "how")
    todo = segments.does(_SEED, number, _SOAK["chances"])
    dies = todo is Does.DIE_ALWAYS or (todo is Does.DIE_ONCE and is_first_time(number))
    if dies and how & 1:
        die(how >> 4)
    if todo is Does.HANG_ONCE and is_first_time(number):
        while True:
            time.sleep(60)
    if not segments.is_posteriors(posteriors.T, _SEED, name, number):
        raise AssertionError(f"CORRUPT: the posteriors of exchange {number} do not hold what was sent")
    if todo is Does.RAISE:
        raise RuntimeError(f"as planned for exchange {number}")
    if todo is Does.SKIP:
        return None, None
    layout, half = how >> 1 & 7, posteriors.shape[1] // 2
    # Most are allocated as in RASR, so that NumPy places them in the ring. Some must be copied into it.
    before = np.empty(posteriors.shape, np.float32) if layout == 6 else None
    order, dtype = ("C" if layout == 5 else "F"), (np.float64 if layout == 7 else np.float32)
    error_signal = np.empty(posteriors.shape, dtype, order=order)
    expected = segments.error_signal_of(_SEED, name, number, posteriors.T.shape).T
    error_signal[:, :half] = expected[:, :half]
    if dies:
        die(how >> 4)
    error_signal[:, half:] = expected[:, half:]
    if todo is Does.SPOIL:
        error_signal[-1, -1] += 1
    del before
    return segments.loss_of(_SEED, name, number), error_signal


def is_first_time(number: int) -> bool:
    """Return whether this is the first Sprint at this segment, and record it in a file."""
    try:
        os.close(os.open(_FOLDER / str(number), os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def die(how: int) -> None:
    """End immediately."""
    kill = _DEATHS[how % len(_DEATHS)]
    if kill is not None:
        os.kill(os.getpid(), kill)
    os._exit(7)


def main() -> None:
    control = sprint_entry.init(
        name="Sprint.PythonControl",
        reference=object(),
        config=_CONFIG,
        callback=callback,
        sprint_unit="NnTrainer.pythonControl",
        version_number=5,
    )
    if _SOAK["way"] == "loop":
        control.run_control_loop(callback=callback)
    else:
        control.init_processing(input_dim=-1, output_dim=-1)
        for name in sprint_entry.getSegmentList(
            corpusName="söak", segmentList=segments.NAMES, segmentsInfo=None, config=_CONFIG
        ):
            control.process_segment(
                name=name,
                orthography=b"word ",
                speaker_name=None,
                features=None,
                alignment=None,
                soft_alignment=None,
            )
    control.exit()


if __name__ == "__main__":
    main()
