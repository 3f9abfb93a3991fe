"""The signals that Sprint ignores, and the one at which it writes its stacks.

Everything here is C: importing the module `signal` would make Python handle SIGINT.
"""

from __future__ import annotations

import faulthandler
import functools
import os

from .._native import lib


@functools.cache  # once in a process
def set_handlers() -> None:
    """Ignore TERM, HUP, USR1 and USR2 unless Sprint handles them. At the stack signal, write stacks and end.

    A batch system sends these to each process of a job step. They are meant for the trainer. Forks of Sprint
    and programs that it starts are ended by them as before.
    """
    # Without the signals blocked, a fork would ignore one that arrives before after_in_child.
    os.register_at_fork(
        before=lib.shmb_signals_before_fork,
        after_in_parent=lambda: lib.shmb_signals_after_fork(0),
        after_in_child=lambda: lib.shmb_signals_after_fork(1),
    )
    lib.shmb_signals_ignore()
    faulthandler.register(lib.SHMB_STACK_SIGNAL, file=2, all_threads=True, chain=True)
