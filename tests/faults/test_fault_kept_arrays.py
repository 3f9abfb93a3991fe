"""Arrays that are kept until the interpreter ends.

Other ends of what they view: tests/bridge/test_in_place.py, tests/ring/test_ring_views.py.
"""

from __future__ import annotations

import pytest

SPRINT = "init().run_control_loop(callback=callback)"
TRAINER = """
import atexit, time
pool = shmbridge.SprintInstancePool(**OPTIONS)
claim = pool.claim("c/s1", 300, 100)
posteriors = claim.posteriors
posteriors[:] = 3
result = claim.send().result()
error_signal = result.error_signal
values = error_signal.copy()
open_claim = pool.claim("c/s2", 300, 100)
unsent = open_claim.posteriors
unsent[:] = 7

def check():
    return bool((posteriors == 3).all() and (error_signal == values).all() and (unsent == 7).all())

class AtTheVeryEnd:
    # Its globals may be deleted by then, but not its attributes.
    def __init__(self):
        self.arrays = [(posteriors, 3), (error_signal, 6), (unsent, 7)]
        self.write = os.write
    def __del__(self):
        right = all(bool((array == value).all()) for array, value in self.arrays)
        self.write(1, b'"at the very end"\\n' if right else b'"spoilt"\\n')

at_the_very_end = AtTheVeryEnd()
itself = [at_the_very_end]
itself.append(itself)  # collected when modules are torn down
atexit.register(lambda: say(check() and "at exit"))
{how}
"""
HOW = {
    "with the pool open": "",
    "with the pool closed": "pool.close()",
    "with an exception": "raise KeyError('on purpose')",
    "with Sprint dead": """
from support.internals import kill_child
kill_child(pool)
""",
    "with a thread that reads on": """
def read():
    while True:
        if not check():
            os._exit(9)
thread = threading.Thread(target=read, daemon=True)
thread.start()
""",
}


@pytest.mark.parametrize("how", HOW)
def test_arrays_can_be_read_while_the_interpreter_ends(sprint_env, how):
    with sprint_env.trainer(TRAINER.format(how=HOW[how]), sprint_env.scripted(SPRINT)) as trainer:
        said, _ = trainer.communicate()
        # A thread that runs to the end keeps the module's globals, so that they are never deleted.
        assert said.splitlines() == ['"at exit"', '"at the very end"'][: 1 if "thread" in how else 2]
        assert trainer.returncode == (1 if "exception" in how else 0)
