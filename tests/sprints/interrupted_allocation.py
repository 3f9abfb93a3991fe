"""A trainer with a Ctrl-C while it reserves shared memory; it reports the descriptors that are left open."""

from __future__ import annotations

import os
from unittest import mock

from support.internals import create_shared_memory
from support.trainer import say


def count_descriptors() -> int:
    """Return the number of open descriptors."""
    return len(os.listdir("/proc/self/fd"))


before = count_descriptors()
try:
    with mock.patch("os.posix_fallocate", side_effect=KeyboardInterrupt):
        create_shared_memory(1 << 20)
except KeyboardInterrupt:
    say(count_descriptors() - before)
