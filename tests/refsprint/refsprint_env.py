"""Files for refsprint, user modules, and a class that runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import ClassVar, Optional

import shmbridge
from support.finished import Finished, read_calls

PACKAGE_PARENT = str(Path(shmbridge.__file__).resolve().parent.parent)

CORPUS = """<?xml version="1.0" encoding="utf-8"?>
<corpus name="demo">
  <speaker-description name="anna"><gender>female</gender></speaker-description>
  <recording name="rec" audio="rec.wav">
    <segment name="one" start="0.0" end="0.12"><speaker name="anna"/><orth> hello  world </orth></segment>
    <segment start="0.2" end="0.3"><orth>world</orth></segment>
    <segment name="short" start="0.3" end="0.32"><orth>hello world hello</orth></segment>
  </recording>
  <subcorpus name="sub">
    <recording name="rec" audio="rec2.wav">
      <segment name="a" start="0" end="0.1"><orth>grün</orth></segment>
    </recording>
  </subcorpus>
</corpus>
"""

LEXICON = """<?xml version="1.0" encoding="utf-8"?>
<lexicon>
  <phoneme-inventory>
    <phoneme><symbol>h</symbol></phoneme>
    <phoneme><symbol>e</symbol></phoneme>
    <phoneme><symbol>[sil]</symbol><variation>none</variation></phoneme>
    <phoneme><symbol>l</symbol></phoneme>
    <phoneme><symbol>o</symbol></phoneme>
    <phoneme><symbol>w</symbol></phoneme>
    <phoneme><symbol>[blank]</symbol><variation>none</variation></phoneme>
  </phoneme-inventory>
  <lemma><orth>hello</orth><phon>h e l l o</phon></lemma>
  <lemma><orth>world</orth><phon>w o l</phon></lemma>
  <lemma><orth>grün</orth><phon>w e</phon><phon>w e e</phon></lemma>
  <lemma special="silence"><orth>[SILENCE]</orth><orth/><phon>[sil]</phon></lemma>
  <lemma special="blank"><orth>[BLANK]</orth><phon>[blank]</phon></lemma>
</lexicon>
"""

CONTROL = """
class Control:
    def exit(self):
        record("exit")
    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **arguments: record(name, **arguments)

def init(**arguments):
    record("init", **arguments)
    return Control()
"""

CONTROL_LOOP = """
class Control:
    def run_control_loop(self, callback):
        record("run_control_loop", callback=callback)
        rng = numpy.random.default_rng(1)
        logits = rng.normal(size=(12, 7)).astype("float32")
        posteriors = logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))
        loop(callback, posteriors)
    def exit(self):
        record("exit")

def init(**arguments):
    record("init", **arguments)
    return Control()
"""


class RefsprintEnv:
    """A directory with a corpus, a lexicon and a user module."""

    LABELS = 7
    BLANK = 6
    SEGMENTS: ClassVar[list[str]] = ["demo/rec/one", "demo/rec/2", "demo/rec/short", "demo/sub/rec/a"]
    CORPUS = CORPUS
    LEXICON = LEXICON
    CONTROL = CONTROL
    CONTROL_LOOP = CONTROL_LOOP

    def __init__(self, path: Path) -> None:
        self.path = path
        self.corpus = path / "corpus.xml"
        self.lexicon = path / "lexicon.xml"
        self.corpus.write_text(CORPUS, encoding="utf-8")
        self.lexicon.write_text(LEXICON, encoding="utf-8")

    def module(self, source: str, name: str = "usermod") -> None:
        """Write a user module. It can use `record` (tests/recorder.py) and numpy."""
        head = "import numpy\nfrom recorder import record\n"
        (self.path / f"{name}.py").write_text(head + textwrap.dedent(source), encoding="utf-8")

    def start(self, *options: str, config: Optional[str] = None) -> subprocess.Popen[str]:
        arguments = [
            sys.executable,
            "-m",
            "shmbridge.refsprint",
            f"--*.corpus.file={self.corpus}",
            f"--*.lexicon.file={self.lexicon}",
            f"--*.pymod-path={self.path}",
            "--*.pymod-name=usermod",
            "--*.pymod-config=c2p_fd:3,p2c_fd:4",
            *(f"--*.{option}" for option in options),
        ]
        if config is not None:
            (self.path / "sprint.config").write_text(config, encoding="utf-8")
            arguments.append(f"--config={self.path / 'sprint.config'}")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([PACKAGE_PARENT, str(Path(__file__).resolve().parent.parent)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "RECORDED_CALLS": str(self.path / "calls.jsonl"),
        }
        return subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            cwd=self.path,
        )

    def run(self, *options: str, config: Optional[str] = None) -> Finished:
        with self.start(*options, config=config) as process:
            try:
                out, err = process.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Finished(process.returncode, out, err, read_calls(self.path / "calls.jsonl"))
