"""Run one of the Python targets under atheris: fuzz_python.py TARGET PROGRAM [libFuzzer's arguments].

libFuzzer starts PROGRAM for each process of its own; __main__.py writes it.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["shmbridge", "targets", "json.decoder", "json.scanner", "shlex"]):
    from targets import TARGETS

if __name__ == "__main__":
    atheris.Setup(sys.argv[2:], TARGETS[sys.argv[1]])
    atheris.Fuzz()
