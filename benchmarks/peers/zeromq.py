"""pyzmq without its own copies: ipc sockets, copy=False."""

from __future__ import annotations

import os
import struct
import sys

import numpy as np
import zmq

from shmbridge.cli.null_sprint import error_signal_for

from ..leftovers import temporary_folder
from .child import die_with_parent, run_module
from .peer import SEGMENT_NAME, TIMEOUT, Array, Peer

_HEADER = struct.Struct("<QQd64s")  # rows, columns, loss, segment name


class ZeroMq(Peer):
    """A PAIR of sockets. A message has two frames: the header and the matrix."""

    def _start(self) -> None:
        folder = self.resources.enter_context(temporary_folder())
        address = f"ipc://{os.path.join(folder, 'socket')}"
        context = self.resources.enter_context(zmq.Context())
        self._socket = self.resources.enter_context(context.socket(zmq.PAIR))
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, int(TIMEOUT * 1e3))
        self._socket.setsockopt(zmq.SNDTIMEO, int(TIMEOUT * 1e3))
        self._socket.bind(address)
        self.resources.enter_context(run_module(__name__, address))
        self._header = _HEADER.pack(self.work.rows, self.work.columns, 0.0, SEGMENT_NAME.encode())

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        work = self.work
        work.posteriors[0, 0, 0] = value
        self._socket.send(self._header, zmq.SNDMORE)
        self._socket.send(work.posteriors.data, copy=False)
        _HEADER.unpack(self._socket.recv())
        matrix: Array = np.frombuffer(self._socket.recv(copy=False).buffer, np.float32)
        np.copyto(work.error_signal, matrix.reshape(work.error_signal.shape))
        return float(work.error_signal[0, 0, 0])


def _serve(address: str) -> None:
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.connect(address)
        while True:
            header = socket.recv()
            rows, columns, _, _ = _HEADER.unpack(header)
            posteriors: Array = np.frombuffer(socket.recv(copy=False).buffer, np.float32)
            error_signal = error_signal_for(posteriors.reshape(rows, columns).T)
            socket.send(header, zmq.SNDMORE)
            socket.send(error_signal.T.data, copy=False)


if __name__ == "__main__":
    die_with_parent()
    _serve(sys.argv[1])
