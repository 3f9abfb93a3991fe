"""The one line in a RETURNN config, which RETURNN executes as Python."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from returnn_env import Returnn

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "returnn.md"
LINE = "import shmbridge.returnn; shmbridge.returnn.install()"

# The steps of returnn/__main__.py until training begins; then a batch as the losses pass it, and the config
# pickled as for a data loader's workers.
TRAIN = """
import pickle, sys
import numpy as np
import returnn.__main__ as rnn
rnn.init_config(config_filename=sys.argv[1])
from returnn.config import get_global_config
from returnn.sprint.error_signals import SprintInstancePool
config = get_global_config()
pool = SprintInstancePool.get_global_instance(config.typed_dict["sprint_opts"])
assert SprintInstancePool.get_batch_loss_and_error_signal.__module__.startswith(sys.argv[3])
with pool.lock:
    edges, weights, states = pool.get_automata_for_batch([sys.argv[2]])
# A single write: another thread writes Sprint's output to the same file.
sys.stdout.write(f"edges {edges.shape[0]} {states.shape[1]}\\n")
copy = pickle.loads(pickle.dumps(config))
assert copy.typed_dict["sprint_opts"]["numInstances"] == 2
"""

CONFIG = """
    #!returnn/rnn.py
    {line}
    task = "nop"
    sprint_config = {words!r}

    def get_sprint_config():
        return sprint_config  # a global variable of the config

    sprint_opts = {{
        "sprintExecPath": {executable!r},
        "sprintConfigStr": "config:get_sprint_config",
        "usePythonSegmentOrder": False,
        "numInstances": 2,
    }}
    """


@pytest.mark.parametrize("name", ["returnn.config", "config.py"])
def test_the_line_in_a_config_is_enough(returnn: Returnn, name: str) -> None:
    sprint_env = returnn.sprint_env
    path = sprint_env.path / name
    text = CONFIG.format(line=LINE, words=returnn.sprint_config("loop"), executable=returnn.executable)
    path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(path), sprint_env.NAMES[0], "shmbridge.returnn"],
        capture_output=True,
        text=True,
        check=False,
        env=sprint_env.env,
        cwd=sprint_env.path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "edges 4 1" in done.stdout


def test_the_documentation_shows_the_same_line() -> None:
    assert LINE in DOCUMENTATION.read_text(encoding="utf-8")
