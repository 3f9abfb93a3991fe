"""Matrices through two pipes and back: what the exchange takes where no memory is shared.

python -m shmbridge.cli.pipe_echo READ_END WRITE_END SIZE
"""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["PipeEcho"]


class PipeEcho:
    """A process that sends back what it gets. A context manager.

    Args:
        size: bytes of each message.
    """

    def __init__(self, size: int) -> None:
        theirs_read, self._write = os.pipe()
        self._read, theirs_write = os.pipe()
        self._answer = memoryview(bytearray(size))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs_read), str(theirs_write), str(size)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs_read, theirs_write),
                start_new_session=True,  # Ctrl-C is for us; it ends when its pipe does
            )
        except BaseException:
            os.close(self._read)
            os.close(self._write)
            raise
        finally:
            os.close(theirs_read)
            os.close(theirs_write)

    def exchange(self, message: memoryview) -> memoryview:
        """Send bytes, and receive as many.

        Raises:
            ConnectionError: the process is gone.
        """
        _write_all(self._write, message)
        _read_all(self._read, self._answer)
        return self._answer

    def __enter__(self) -> PipeEcho:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.wait()


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read_all(descriptor: int, buffer: memoryview) -> None:
    while buffer:
        count = os.readv(descriptor, [buffer])
        if not count:
            raise ConnectionResetError("the other end of the pipe is closed [bench-failed]")
        buffer = buffer[count:]


def _serve(read_end: int, write_end: int, size: int) -> None:
    buffer = memoryview(bytearray(size))
    try:
        while True:
            _read_all(read_end, buffer)
            _write_all(write_end, buffer)
    except ConnectionError:
        pass


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
