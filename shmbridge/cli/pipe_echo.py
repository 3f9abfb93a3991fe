"""Return each message of a fixed size: standard input to standard output.

python -m shmbridge.cli.pipe_echo SIZE
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main(size: int) -> None:
    """Return messages of `size` bytes until standard input ends."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # an interrupted bench closes both pipes
    message = bytearray(size)
    with open(0, "rb") as source, open(1, "wb") as sink:
        while source.readinto(message) == size:
            sink.write(message)
            sink.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
