"""A corpus and a lexicon, Sprints that read them or are played by hand, and a watch for what is left behind.

Tests get everything through the fixtures `sprint_env` and `module_sprint_env`: a module named conftest is not
safe to import.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest

import shmbridge
import support
from support.ctc import enumerate_ctc

# Seconds; no test takes as long, only one that hangs does.
SAFETY_NET = int(os.environ.get("SHMBRIDGE_TEST_TIMEOUT", "60"))
MARK = "SHMBRIDGE_TEST"
SHM = Path("/dev/shm")
# For the processes that tests start: the package, and tests/support.
PYTHONPATH = os.pathsep.join(
    str(Path(file).resolve().parents[1]) for file in (shmbridge.__file__, support.__file__)
)

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
# name -> orthography, frames (which is what Sprint's features have, too)
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
SHORT = "kórpus/rec/short"  # too short for its words: Sprint discards it
SHORT_SEGMENT = ("twice ab", 2)

PRELUDE = """
import json, os, sys, threading
import numpy as np

OPTIONS = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
CONFIG = OPTIONS["*.pymod-config"]
sys.path.insert(0, OPTIONS["*.pymod-path"])
import sprint_entry

SEGMENTS = ["c/s1", "c/s2", "c/s3"]
SEEN = {"orthographies": []}

def callback(command, **arguments):
    if command == "version":
        return "<version>by hand</version>"
    if command == "get_orthography_by_segment_name":
        return "word "
    if command == "calculate_criterion":
        SEEN["orthographies"].append(arguments.get("orthography"))
        posteriors = arguments["posteriors"]
        return 1.5, np.asfortranarray(2 * posteriors)
    raise ValueError(command)

def init(**more):
    given = dict(name="Sprint.PythonControl", reference=object(), config=CONFIG, callback=callback,
                 sprint_unit="NnTrainer.pythonControl", version_number=5)
    return sprint_entry.init(**{**given, **more})

def segment_list():
    return sprint_entry.getSegmentList(
        corpusName="c", segmentList=list(SEGMENTS), segmentsInfo=None, config=CONFIG)

def process(control, name, **more):
    given = dict(orthography=b"word ", speaker_name=None, features=None, alignment=None, soft_alignment=None)
    control.process_segment(name=name, **{**given, **more})

def attempt(call):
    try:
        return ["returned", repr(call())]
    except BaseException as error:
        return [type(error).__name__, str(error)]
"""


class SprintEnv:
    """A directory with what Sprint reads, and ways to start one on it."""

    LABELS = len(PHONEMES)
    BLANK = BLANK
    NAMES: ClassVar[list[str]] = list(SEGMENTS)
    SHORT = SHORT
    SCRIPTED_NAMES: ClassVar[list[str]] = ["c/s1", "c/s2", "c/s3"]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.segments = {**SEGMENTS, SHORT: SHORT_SEGMENT}
        self.mark = uuid.uuid4().hex
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

    # --- posteriors, and what Sprint should make of them

    def frames(self, names: Sequence[str]) -> list[int]:
        return [self.segments[name][1] for name in names]

    def orthographies(self, names: Sequence[str]) -> list[str]:
        return [self.segments[name][0] for name in names]

    def posteriors(self, lengths: Sequence[int], seed: int = 0, labels: int = LABELS) -> Any:
        """Log posteriors (time,batch,label) float32; what is beyond each length is junk."""
        shape = (max(lengths, default=0), len(lengths), labels)
        x = np.random.default_rng(seed).normal(size=shape)
        x -= np.log(np.exp(x).sum(axis=-1, keepdims=True))
        for b, length in enumerate(lengths):
            x[length:, b] = 1e30
        return x.astype(np.float32)

    def expected(self, posteriors: Any, lengths: Sequence[int], names: Sequence[str]) -> tuple[Any, Any]:
        """Loss (batch,) and error signal (time,batch,label) by going through all paths one by one."""
        loss = np.empty(len(names))
        error_signal = np.zeros(posteriors.shape)
        for b, (length, orthography) in enumerate(zip(lengths, self.orthographies(names))):
            enumerated = enumerate_ctc(posteriors[:length, b], label_sequences(orthography), BLANK)
            loss[b], error_signal[:length, b] = enumerated.loss, enumerated.error_signal
        return loss, error_signal

    def check(self, pool: Any, names: Sequence[str], seed: int = 0) -> None:
        """One batch with these segments; loss and error signal are right."""
        lengths = self.frames(names)
        posteriors = self.posteriors(lengths, seed)
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
        self.compare(loss, error_signal, posteriors, lengths, names)

    def compare(self, loss: Any, error_signal: Any, posteriors: Any, lengths: Any, names: Any) -> None:
        assert loss.dtype == np.float32
        assert error_signal.dtype == np.float32
        expected_loss, expected_error = self.expected(posteriors, lengths, names)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(error_signal, expected_error, rtol=1e-4, atol=1e-5)
        for b, length in enumerate(lengths):
            assert not error_signal[length:, b].any()

    # --- Sprints

    def options(self, way: str, *sprint: str, **more: Any) -> dict[str, Any]:
        """Options of a pool whose Sprint is refsprint, driven in one of the ways."""
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

    def pool(self, way: str, *sprint: str, **more: Any) -> Any:
        return shmbridge.SprintInstancePool(**self.options(way, *sprint, **more))

    def scripted(self, body: str, **more: Any) -> dict[str, Any]:
        """Options of a pool whose Sprint is this script, which has PRELUDE before it."""
        script = self.path / f"sprint_{uuid.uuid4().hex}.py"
        seen = self.path / "seen.json"
        end = f"\nwith open({str(seen)!r}, 'w') as file:\n    json.dump(SEEN, file)\n"
        script.write_text(PRELUDE + textwrap.dedent(body) + end, encoding="utf-8")
        return {
            "sprint_exec_path": [sys.executable, str(script)],
            "ring_size": 1 << 20,
            "exit_timeout": SAFETY_NET,
            "env": self.env,
            **more,
        }

    def scripted_pool(self, body: str, **more: Any) -> Any:
        return shmbridge.SprintInstancePool(**self.scripted(body, **more))

    def seen(self) -> dict[str, Any]:
        """What the Sprint that was played by hand has seen, after it has ended well."""
        path = self.path / "seen.json"
        assert path.exists(), "the script did not run to its end: see the log of shmbridge.sprint"
        seen: dict[str, Any] = json.loads(path.read_text())
        return seen

    def executable(self, text: str, name: str = "sprint") -> str:
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    # --- processes

    def sprint_pids(self) -> list[int]:
        """The Sprint children that run now."""
        pids = []
        for pid in marked_processes(self.mark):
            with contextlib.suppress(OSError):
                if b"--*.pymod-config=" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    pids.append(pid)
        return sorted(pids)

    def wait_until(self, done: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + SAFETY_NET / 2
        while not done():
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            time.sleep(0.005)

    def wait_gone(self, pids: Sequence[int]) -> None:
        self.wait_until(lambda: not any(is_alive(pid) for pid in pids), f"the processes {pids} are gone")

    @contextlib.contextmanager
    def trainer(self, body: str, options: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
        """A process of its own that is the parent of a pool; `body` has OPTIONS and say(object)."""
        script = self.path / "trainer.py"
        head = f"""
            import gc, json, os, signal, sys, threading
            import numpy as np
            import shmbridge
            OPTIONS = { ({k: v for k, v in options.items() if k != "env"})!r}
            def say(what):
                print(json.dumps(what), flush=True)
            """
        script.write_text(textwrap.dedent(head) + textwrap.dedent(body), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(script)],
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
        """The next thing that the trainer says."""
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
        "input-in-log-space=true",
    ),
    "trainer": (*_TRAINER, "bottom.layer-type=python", "bottom.links=top", "top.layer-type=identity"),
    "no-layer": (*_TRAINER, "bottom.layer-type=identity"),
    "loop": (
        "action=python-control",
        "python-control-loop-type=python-control-loop",
        "input-in-log-space=true",
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


# --- nothing is left behind


def is_alive(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def marked_processes(mark: str) -> list[int]:
    """The living processes that were started with this mark in their environment, whoever is their parent."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0") and is_alive(
                    int(entry)
                ):
                    found.append(int(entry))
    return found


def _names_in_shm() -> set[str]:
    # Such as posix_ipc makes up: others on this machine have their own.
    return {name for name in os.listdir(SHM) if re.fullmatch("[a-z]+", name)}


def _descriptors() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def _watchers() -> int:
    return sum("shmbridge" in thread.name for thread in threading.enumerate())


class _Watch:
    """Remembers what there is, and says later what more there is."""

    def __init__(self) -> None:
        self.shm = _names_in_shm()
        self.descriptors = _descriptors()
        self.watchers = _watchers()

    def left_behind(self) -> list[str]:
        left = [f"/dev/shm/{name}" for name in _names_in_shm() - self.shm]
        descriptors = _descriptors()
        if len(descriptors) > len(self.descriptors):
            left += [f"{n}: {to}" for n, to in descriptors.items() if n not in self.descriptors]
        if _watchers() > self.watchers:
            left.append("a thread of shmbridge")
        return left


@contextlib.contextmanager
def _nothing_left_behind(sprint_env: SprintEnv) -> Iterator[None]:
    watch = _Watch()
    yield
    gc.collect()
    # What others do on this machine may show for a moment in /dev/shm; what is left behind stays.
    deadline = time.monotonic() + 10
    while (left := watch.left_behind() + marked_processes(sprint_env.mark)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, left
    assert os.listdir(sprint_env.path / "tmp") == []


def _make_env(path: Path) -> SprintEnv:
    sprint_env = SprintEnv(path)
    (path / "tmp").mkdir()
    sprint_env.env["TMPDIR"] = str(path / "tmp")
    return sprint_env


@pytest.fixture
def sprint_env(tmp_path: Path) -> Iterator[SprintEnv]:
    """For pools that live as long as a test; checks that nothing is left of them."""
    sprint_env = _make_env(tmp_path)
    with _nothing_left_behind(sprint_env):
        yield sprint_env


@pytest.fixture(scope="module")
def module_sprint_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SprintEnv]:
    """For a pool that several tests of a module share."""
    sprint_env = _make_env(tmp_path_factory.mktemp("sprint_env"))
    with _nothing_left_behind(sprint_env):
        yield sprint_env


@pytest.fixture(autouse=True)
def _watch_over_the_test(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What Sprint says is shown where a test fails; a test that hangs fails; nothing is left in /dev/shm."""
    caplog.set_level("INFO", logger="shmbridge")

    def hangs(_number: int, _frame: Any) -> None:
        raise AssertionError(f"the test hangs: it has not ended after {SAFETY_NET} s")

    before = signal.signal(signal.SIGALRM, hangs)
    # Again and again: what is left on the way out may hang as well.
    signal.setitimer(signal.ITIMER_REAL, SAFETY_NET, SAFETY_NET)
    watch = _Watch()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    deadline = time.monotonic() + 10
    while (left := watch.left_behind()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, left


@pytest.fixture
def sprint_log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines that Sprint has written so far; all of them once its pool is closed."""
    return lambda: [r.getMessage() for r in caplog.records if r.name == "shmbridge.sprint"]
