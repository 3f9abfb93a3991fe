"""A corpus and a lexicon, and the Sprints that read them or run a script."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

import shmbridge

from .ctc import enumerate_ctc
from .leftovers import MARK, is_alive, marked_processes

# Seconds. No test runs as long unless it hangs.
SAFETY_NET = int(os.environ.get("SHMBRIDGE_TEST_TIMEOUT", "60"))
_TESTS = Path(__file__).resolve().parents[1]
# For the processes that tests start: the package, and tests/support.
PYTHONPATH = os.pathsep.join([str(Path(shmbridge.__file__).resolve().parents[1]), str(_TESTS)])

Array = npt.NDArray[Any]
Options = dict[str, Any]

# --- the model: labels 0..2 are phonemes, 3 is the blank

PHONEMES = ("A", "B", "C", "BLANK")
BLANK = 3
WORDS: dict[str, list[tuple[int, ...]]] = {
    "a": [(0,)],
    "ab": [(0, 1)],
    "grün": [(2, 1)],
    "twice": [(0, 0)],
    "either": [(0, 2), (1,)],  # each with probability 1/2
    "日本": [(1, 2)],
}
# name -> orthography, frames
SEGMENTS: dict[str, tuple[str, int]] = {
    "kórpus/rec/größe": ("grün a", 6),
    "kórpus/rec/one": ("a", 3),
    "kórpus/rec/two": ("ab", 5),
    "kórpus/rec/twice": ("twice", 6),
    "kórpus/rec/日本": ("日本 a", 5),
    "kórpus/rec/either": ("either", 4),
    "kórpus/rec/again": ("a a", 4),
    "kórpus/rec/last": ("ab a", 6),
}
SHORT = "kórpus/rec/short"  # too short for its words: Sprint skips it
SHORT_SEGMENT = ("twice ab", 2)


_SPRINTS = _TESTS / "sprints"
_PRELUDE = _SPRINTS / "prelude.py"


class SprintEnv:
    """A folder with a corpus and a lexicon, and pools whose Sprints read them."""

    LABELS = len(PHONEMES)
    BLANK = BLANK
    NAMES: ClassVar[list[str]] = list(SEGMENTS)
    SHORT = SHORT
    SCRIPTED_NAMES: ClassVar[list[str]] = ["c/s1", "c/s2", "c/s3"]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.segments = {**SEGMENTS, SHORT: SHORT_SEGMENT}
        self.mark = uuid.uuid4().hex
        self._seen_path = path / "seen.json"
        self.env = {**os.environ, MARK: self.mark, "PYTHONPATH": PYTHONPATH}
        self.write_corpus()
        self.write_lexicon()

    # --- files

    def write_corpus(self, encoding: str = "utf-8") -> Path:
        """Write corpus.xml with `segments`, whose names all begin with kórpus/rec/."""
        lines = [f'<?xml version="1.0" encoding="{encoding}"?>', '<corpus name="kórpus">']
        lines.append('<recording name="rec" audio="rec.wav">')
        for name, (orthography, frames) in self.segments.items():
            short = quoteattr(name.rpartition("/")[2])
            orth = f"<orth> {escape(orthography)} </orth>"
            lines.append(f'<segment name={short} start="0" end="{frames / 100}">{orth}</segment>')
        lines += ["</recording>", "</corpus>", ""]
        path = self.path / "corpus.xml"
        path.write_text("\n".join(lines), encoding=encoding)
        return path

    def write_lexicon(self) -> Path:
        """Write lexicon.xml with PHONEMES and WORDS."""
        lines = ['<?xml version="1.0" encoding="utf-8"?>', "<lexicon>", "<phoneme-inventory>"]
        lines += [f"<phoneme><symbol>{symbol}</symbol></phoneme>" for symbol in PHONEMES]
        lines.append("</phoneme-inventory>")
        for word, pronunciations in WORDS.items():
            phons = "".join(f"<phon>{' '.join(PHONEMES[i] for i in p)}</phon>" for p in pronunciations)
            lines.append(f"<lemma><orth>{word}</orth>{phons}</lemma>")
        lines.append('<lemma special="blank"><orth>[BLANK]</orth><phon>BLANK</phon></lemma>')
        lines += ["</lexicon>", ""]
        path = self.path / "lexicon.xml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    # --- posteriors, and the expected loss and error signal

    def frames(self, names: Sequence[str]) -> list[int]:
        """Return the number of frames of each segment."""
        return [self.segments[name][1] for name in names]

    def orthographies(self, names: Sequence[str]) -> list[str]:
        """Return the orthography of each segment."""
        return [self.segments[name][0] for name in names]

    def posteriors(self, lengths: Sequence[int], seed: int = 0, labels: int = LABELS) -> Array:
        """Return log posteriors (time,batch,label) float32, with junk beyond each length."""
        shape = (max(lengths, default=0), len(lengths), labels)
        x: Array = np.random.default_rng(seed).normal(size=shape)
        x -= np.log(np.exp(x).sum(axis=-1, keepdims=True))
        for b, length in enumerate(lengths):
            x[length:, b] = 1e30
        return x.astype(np.float32)

    def expected(
        self, posteriors: Array, lengths: Sequence[int], names: Sequence[str]
    ) -> tuple[Array, Array]:
        """Return loss (batch,) and error signal (time,batch,label) by an enumeration of all paths."""
        loss = np.empty(len(names))
        error_signal = np.zeros(posteriors.shape)
        for b, (length, orthography) in enumerate(zip(lengths, self.orthographies(names))):
            enumerated = enumerate_ctc(posteriors[:length, b], label_sequences(orthography), BLANK)
            loss[b], error_signal[:length, b] = enumerated.loss, enumerated.error_signal
        return loss, error_signal

    def check(self, pool: shmbridge.SprintInstancePool, names: Sequence[str], seed: int = 0) -> None:
        """Run a batch of these segments, and check loss and error signal."""
        lengths = self.frames(names)
        posteriors = self.posteriors(lengths, seed)
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
        self.compare(loss, error_signal, posteriors, lengths, names)

    def compare(
        self,
        loss: Array,
        error_signal: Array,
        posteriors: Array,
        lengths: Sequence[int],
        names: Sequence[str],
    ) -> None:
        """Check loss and error signal, also that the latter is zero beyond each length."""
        assert loss.dtype == np.float32
        assert error_signal.dtype == np.float32
        expected_loss, expected_error = self.expected(posteriors, lengths, names)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(error_signal, expected_error, rtol=1e-4, atol=1e-5)
        for b, length in enumerate(lengths):
            assert not error_signal[length:, b].any()

    # --- Sprints

    def options(self, way: str, *sprint: str, **more: Any) -> Options:
        """Return the options of a pool whose Sprint is refsprint.

        Args:
            way: how Sprint gets its segments: "iterate", "trainer", "no-layer" or "loop".
            sprint: more options for Sprint, without their --*.
            more: more options of the pool.
        """
        config = [f"--*.corpus.file={self.path}/corpus.xml", f"--*.lexicon.file={self.path}/lexicon.xml"]
        config += [f"--*.{option}" for option in (*_WAYS[way], *sprint)]
        return {
            "sprint_exec_path": [sys.executable, "-m", "shmbridge.refsprint"],
            "sprint_config": config,
            "use_python_segment_order": way != "loop",
            "ring_size": 1 << 20,
            "exit_timeout": SAFETY_NET,
            "env": self.env,
            **more,
        }

    def pool(self, way: str, *sprint: str, **more: Any) -> shmbridge.SprintInstancePool:
        """Start a pool with these options."""
        return shmbridge.SprintInstancePool(**self.options(way, *sprint, **more))

    def scripted(self, body: str, **more: Any) -> Options:
        """Return the options of a pool whose Sprint is a script: tests/sprints/prelude.py, and the body."""
        script = self.path / f"sprint_{uuid.uuid4().hex}.py"
        end = f"\nwith open({str(self._seen_path)!r}, 'w') as file:\n    json.dump(SEEN, file)\n"
        script.write_text(_PRELUDE.read_text() + textwrap.dedent(body) + end, encoding="utf-8")
        return {
            "sprint_exec_path": [sys.executable, str(script)],
            "ring_size": 1 << 20,
            "exit_timeout": SAFETY_NET,
            "env": self.env,
            **more,
        }

    def scripted_pool(self, body: str, **more: Any) -> shmbridge.SprintInstancePool:
        """Start a pool with these options."""
        return shmbridge.SprintInstancePool(**self.scripted(body, **more))

    def sprint_file(self, name: str, settings: Mapping[str, object], **more: Any) -> Options:
        """Return the options of a pool whose Sprint is tests/sprints/NAME.py.

        Args:
            name: of the file, without .py.
            settings: for prelude.setting() there.
            more: more options of the pool.
        """
        script = self.path / f"sprint_{name}.py"  # a test removes it, so that no Sprint can be started
        if not script.is_symlink():
            script.symlink_to(_SPRINTS / f"{name}.py")
        return {
            "sprint_exec_path": [sys.executable, str(script)],
            "sprint_config": [
                f"--*.test-{key}={value}" for key, value in {"seen": self._seen_path, **settings}.items()
            ],
            "ring_size": 1 << 20,
            "exit_timeout": SAFETY_NET,
            "env": self.env,
            **more,
        }

    def seen(self) -> dict[str, Any]:
        """Return SEEN of Sprint, after it has run to its end."""
        assert self._seen_path.exists(), "Sprint did not run to its end: see the log of shmbridge.sprint"
        seen: dict[str, Any] = json.loads(self._seen_path.read_text())
        return seen

    def executable(self, text: str, name: str = "sprint") -> str:
        """Write an executable file, and return its path."""
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    # --- processes

    def sprint_pids(self) -> list[int]:
        """Return the process ids of the running Sprints, sorted."""
        pids = []
        for pid in marked_processes(self.mark):
            with contextlib.suppress(OSError):
                if b"--*.pymod-config=" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    pids.append(pid)
        return sorted(pids)

    def wait_until(self, done: Callable[[], object], what: str) -> None:
        """Wait until `done` returns something true; fail after half of SAFETY_NET."""
        deadline = time.monotonic() + SAFETY_NET / 2
        while not done():
            assert time.monotonic() < deadline, f"timeout: waited until {what}"
            time.sleep(0.005)

    def wait_gone(self, pids: Sequence[int]) -> None:
        """Wait until none of these processes is alive."""
        self.wait_until(lambda: not any(is_alive(pid) for pid in pids), f"the processes {pids} are gone")

    def trainer(
        self, body: str, options: Options
    ) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        """Run a script as a trainer in its own process; its body has OPTIONS and say(object)."""
        script = self.path / "trainer.py"
        head = """
            import gc, json, os, signal, sys, threading
            import numpy as np
            import shmbridge
            from support.trainer import OPTIONS, say
            """
        script.write_text(textwrap.dedent(head) + textwrap.dedent(body), encoding="utf-8")
        return self._run_trainer([sys.executable, str(script), self._trainer_settings(options, {})])

    def trainer_file(
        self, name: str, options: Options, **settings: object
    ) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        """Run tests/sprints/NAME.py as a trainer in its own process; it imports support.trainer."""
        return self._run_trainer(self.trainer_command(name, options, **settings))

    def trainer_command(self, name: str, options: Options, **settings: object) -> list[str]:
        """Return the command of tests/sprints/NAME.py as a trainer."""
        return [sys.executable, str(_SPRINTS / f"{name}.py"), self._trainer_settings(options, settings)]

    @staticmethod
    def _trainer_settings(options: Options, settings: dict[str, object]) -> str:
        return json.dumps({"options": {k: v for k, v in options.items() if k != "env"}, **settings})

    @contextlib.contextmanager
    def _run_trainer(self, command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=self.env,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def said(self, process: subprocess.Popen[str]) -> Any:
        """Return the next object that the trainer has passed to say()."""
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the trainer ended: see its standard error"
        return json.loads(line)


_TRAINER = (
    "action=supervised-segmentwise-training",
    "trainer=feed-forward-trainer",
    "estimator=dry-run",
    "buffer-type=utterance",
    "shuffle=false",
    "training-criterion=ctc",
    "input-in-log-space=true",
    "neural-network.links=0->bottom",
    "bottom.dimension-output=4",
)
_WAYS = {
    "iterate": (
        "action=python-control",
        "python-control-loop-type=iterate-corpus",
        "extract-features=false",
    ),
    "trainer": (*_TRAINER, "bottom.layer-type=python", "bottom.links=top", "top.layer-type=identity"),
    "no-layer": (*_TRAINER, "bottom.layer-type=identity"),
    "loop": (
        "action=python-control",
        "python-control-loop-type=python-control-loop",
    ),
}


def label_sequences(orthography: str) -> dict[tuple[int, ...], float]:
    """The label sequences that an orthography may mean, with their probabilities."""
    pronunciations = [WORDS[word] for word in orthography.split()]
    sequences: dict[tuple[int, ...], float] = {}
    for choice in itertools.product(*pronunciations):
        sequence = tuple(itertools.chain.from_iterable(choice))
        weight = 1 / math.prod(len(ways) for ways in pronunciations)
        sequences[sequence] = sequences.get(sequence, 0.0) + weight
    return sequences
