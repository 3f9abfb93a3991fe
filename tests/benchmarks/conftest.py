"""Make benchmarks/ importable, after the installed shmbridge."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
