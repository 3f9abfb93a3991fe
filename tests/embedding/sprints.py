"""Three Sprints on one corpus: the stand-ins, the host, and RASR.

RASR's programs are the nn-trainer that SHMBRIDGE_NN_TRAINER names, and, for lattices, the lattice-processor
that SHMBRIDGE_LATTICE_PROCESSOR names. SHMBRIDGE_NN_TRAINER_PYTHONPATH is the place of numpy for their
embedded Python. If it is not set, that Python must have the version of the tests' Python.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import build_host

import shmbridge
from support.finished import Finished, read_calls

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VARIABLE = "SHMBRIDGE_NN_TRAINER"
NN_TRAINER = os.environ.get(VARIABLE)
LATTICE_PROCESSOR = os.environ.get("SHMBRIDGE_LATTICE_PROCESSOR")
SAFETY_NET = int(os.environ.get("SHMBRIDGE_TEST_TIMEOUT", "120"))

# Full name -> frames, speaker, orthography. The words are letters; the label of a word is its byte modulo 6.
SEGMENTS = {
    "corpus/rec/one": (3, "anna", "a"),
    "corpus/rec/größe": (6, None, "b a d"),
    "corpus/rec/short": (2, None, "a b a b"),
}
LETTERS = "fabcde"  # the labels 0 to 5; then silence, and the blank
LABELS = 8

WAYS = {
    "iterate": (
        "action=python-control",
        "python-control-loop-type=iterate-corpus",
        "extract-features=false",
    ),
    "loop": ("action=python-control", "python-control-loop-type=python-control-loop"),
    "trainer": (
        "action=supervised-segmentwise-training",
        "trainer=feed-forward-trainer",
        "estimator=dry-run",
        "buffer-type=utterance",
        "shuffle=false",
        "python-control-enabled=true",
        "neural-network.links=0->bottom:0",
        "bottom.layer-type=python",
        f"bottom.dimension-output={LABELS}",
        "bottom.links=0->top:0",
        "top.layer-type=identity",
        f"top.dimension-output={LABELS}",
    ),
    # lattice-processor has its options in a file.
    "lattices": ("python-control-enabled=true",),
}
# CTC over single phonemes, without priors, transition probabilities or pruning.
MODEL = """
[*]
training-criterion              = ctc
input-in-log-space              = true
use-search-aligner              = false
use-direct-alignment-extraction = true
[*.acoustic-model]
state-tying.type         = monophone
hmm.states-per-phone     = 1
hmm.state-repetitions    = 1
hmm.across-word-model    = false
phonology.history-length = 0
phonology.future-length  = 0
allophones.add-all           = false
allophones.add-from-lexicon  = true
[*.allophone-state-graph-builder]
topology = ctc
[*.acoustic-model.tdp]
*.loop        = 0
*.forward     = 0
*.skip        = infinity
*.exit        = 0
entry-m1.loop = infinity
entry-m2.loop = infinity
[*.priors]
priori-scale = 0
"""


# A recogniser's feature scorer. nn-trainer has one only for alignments (tests/rasr).
SCORE = {
    "refsprint": ("action=refsprint-recognition", "feature-dimension=3"),
    "host": ("action=score",),
}
HOST_LATTICES = ("action=supervised-segmentwise-training", "host.notifications=segmentwise")


class Sprint:
    """One of the three Sprints, run with probe.py in the place of sprint_entry.py."""

    def __init__(self, name: str, path: Path, host: Optional[Path] = None) -> None:
        self.name = name
        self.path = path
        self.has_features = True
        self._env = {**os.environ, "RECORDED_CALLS": str(path / "calls.jsonl")}
        python_path = [str(HERE), str(HERE.parent)]
        if name == "host":
            assert host is not None
            words = [f"corpus.file={self._write_lines()}", f"python-home={build_host.python_home()}"]
            self._command = [str(host), *(f"--*.{word}" for word in (*words, f"host.labels={LABELS}"))]
            self._lattices = [*self._command, *(f"--*.{word}" for word in HOST_LATTICES)]
            python_path.append(build_host.python_path())
        elif name == "refsprint":
            self._command = [sys.executable, "-m", "shmbridge.refsprint", "--*.bottom.dimension-input=2"]
            self._lattices = [sys.executable, "-m", "shmbridge.refsprint.lattice_processor"]
            python_path.append(str(Path(shmbridge.__file__).resolve().parent.parent))
        else:
            self._command, self._lattices = [NN_TRAINER or ""], [LATTICE_PROCESSOR or ""]
            given = os.environ.get(f"{VARIABLE}_PYTHONPATH")
            python_path.append(given if given is not None else build_host.python_path())
            self._env.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
        if name != "host":
            self._command.append(f"--config={self._write_bliss()}")
            self.has_features = self._write_features()
            self._lattices.append(f"--config={path}/lattices.config")
        if name == "rasr":
            self._command.append(f"--*.feature-extraction.file={path}/features.flow")
        self._env["PYTHONPATH"] = os.pathsep.join(python_path)

    def run(self, way: str, *options: str, **probe: Any) -> Finished:
        """Run one of the ways; `probe` becomes the variable PROBE of probe.py."""
        order = "false" if way in ("loop", "score") else "true"
        words = [
            "pymod-name=probe",
            f"pymod-path={HERE}",
            "pymod-config=some:thing",
            f"python-segment-order={order}",
            "python-segment-order-pymod-name=probe",
            f"python-segment-order-pymod-path={HERE}",
            "python-segment-order-config=some:thing",
            *(SCORE[self.name] if way == "score" else WAYS[way]),
            *options,
        ]
        done = subprocess.run(
            [*(self._lattices if way == "lattices" else self._command), *(f"--*.{word}" for word in words)],
            env={**self._env, "PROBE": json.dumps(probe)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=self.path,
            timeout=SAFETY_NET,
            check=False,
        )
        return Finished(done.returncode, done.stdout, "", read_calls(Path(self._env["RECORDED_CALLS"])))

    # --- input files

    def _write_lines(self) -> Path:
        path = self.path / "corpus.tsv"
        lines = [f"{n}\t{frames}\t{who or ''}\t{orth} \n" for n, (frames, who, orth) in SEGMENTS.items()]
        path.write_text("".join(lines), encoding="utf-8")
        return path

    def _write_bliss(self) -> Path:
        """Write a corpus, a lexicon and a config with the model; return the path of the config."""
        head = '<?xml version="1.0" encoding="utf-8"?>\n'
        corpus = (
            head + '<corpus name="corpus"><speaker-description name="anna"/><recording name="rec" audio="x">'
        )
        start = 0.0
        for name, (frames, speaker, orthography) in SEGMENTS.items():
            end = start + frames / 100
            corpus += f'<segment name="{name.rpartition("/")[2]}" start="{start:.2f}" end="{end:.2f}">'
            corpus += f'<speaker name="{speaker}"/>' if speaker else ""
            corpus += f"<orth> {orthography} </orth></segment>\n"
            start = end
        lexicon = head + "<lexicon><phoneme-inventory>"
        for phoneme in LETTERS:
            lexicon += f"<phoneme><symbol>{phoneme}</symbol></phoneme>"
        for phoneme in ("SIL", "BLANK"):
            lexicon += f"<phoneme><symbol>{phoneme}</symbol><variation>none</variation></phoneme>"
        lexicon += "</phoneme-inventory>"
        # RASR (b6ff1a89) crashes if the first word has one phoneme and allophones have no context.
        lexicon += "<lemma><orth>df</orth><phon>d f</phon></lemma>\n"
        for phoneme in LETTERS:
            lexicon += f"<lemma><orth>{phoneme}</orth><phon>{phoneme}</phon></lemma>\n"
        for special, phoneme in (("silence", "SIL"), ("blank", "BLANK")):
            orth, phon = f"<orth>[{phoneme}]</orth>", f"<phon>{phoneme}</phon>"
            lexicon += f'<lemma special="{special}">{orth}{phon}</lemma>'
        config = (
            f"[*.corpus]\nfile = {self.path}/corpus.xml\n[*.lexicon]\nfile = {self.path}/lexicon.xml\n{MODEL}"
        )
        (self.path / "corpus.xml").write_text(corpus + "</recording></corpus>\n", encoding="utf-8")
        lexicon += "</lexicon>\n"
        (self.path / "lexicon.xml").write_text(lexicon, encoding="utf-8")
        # Between the words of a lattice, there may be silence.
        silence = "<phon>SIL</phon>"
        lexicon = lexicon.replace(silence, f"<orth/>{silence}<synt/><eval/>")
        (self.path / "lattice-lexicon.xml").write_text(lexicon, encoding="utf-8")
        path = self.path / "sprint.config"
        path.write_text(config, encoding="utf-8")
        return path

    def _write_features(self) -> bool:
        """Write features, lattices and a config; return False if examples/, which writes them, is missing."""
        sys.path.append(str(ROOT))
        try:
            features: Any = importlib.import_module("examples.rasr.feature_cache")
            lattices: Any = importlib.import_module("examples.rasr.lattices")
        except ImportError:
            return False
        finally:
            sys.path.remove(str(ROOT))
        segments = [SimpleNamespace(full_name=name, frames=SEGMENTS[name][0]) for name in SEGMENTS]
        task = SimpleNamespace(segments=segments, phonemes=[*LETTERS, "SIL", "BLANK"])
        with open(self.path / "features.cache", "wb") as file:
            features.write_cache(file, task)
        texts = {
            "features.flow": features.flow_network(f"{self.path}/features.cache"),
            "mixtures.pms": lattices.mixture_set(task),
            "lattices.config": lattices.config(task, self.path, "mmi"),
            **{f"lattices/{name}.lat": _lattice(name) for name in SEGMENTS},
        }
        for name, text in texts.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return True


def _lattice(name: str) -> str:
    """Return the HTK lattice of a segment: its words, and another one next to each."""
    frames, _, orthography = SEGMENTS[name]
    words = orthography.split()
    # RASR discards a segment if the alignment of its words does not have all its frames.
    frames -= frames < len(words)
    lines = [f"N={len(words) + 1} L={2 * len(words)}"]
    lines += [f"I={node} t={round(frames * node / len(words)) / 100:.2f}" for node in range(len(words) + 1)]
    for node, word in enumerate(words):
        for arc, said in enumerate((word, "f")):
            lines.append(f"J={2 * node + arc} S={node} E={node + 1} W={said} a=0 l=0")
    return "\n".join(lines) + "\n"
