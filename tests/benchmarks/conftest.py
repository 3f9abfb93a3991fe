"""Makes benchmarks/ importable, which is not installed, behind the shmbridge that is."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
