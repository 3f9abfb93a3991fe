"""Features of segments.

RASR runs a flow network over the audio. refsprint reads ``feature-extraction.file``, an .npz archive with one
matrix (dimension, time) per full segment name. Without one, the features are zeros, with one frame for each
10 ms of the segment. Other files are taken for flow networks and ignored, so that RASR's config files work.
"""

from __future__ import annotations

import functools
import math
import zipfile
from typing import Any

import numpy as np

from shmbridge.bliss.corpus import Segment
from shmbridge.errors import FileFormatError

from .configuration import Configuration
from .console import warn
from .matrices import Matrix

__all__ = ["Features"]

_FRAME_SHIFT = 0.01  # seconds
_MAX_FRAMES = 10_000_000
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile)


class Features:
    """The features of a corpus. Thread-safe once a matrix was read.

    Args:
        config: the options of the component ``feature-extraction``.

    Attributes:
        has_file: whether the features come from a file.
    """

    def __init__(self, config: Configuration) -> None:
        self._path = config.string("file")
        self.has_file = self._path.endswith(".npz")
        if self._path and not self.has_file:
            warn(f"refsprint does not run flow networks: {self._path!r} is ignored [features]")

    @functools.cached_property
    def _archive(self) -> Any:
        try:
            archive = np.load(self._path, allow_pickle=False)
        except _UNREADABLE as error:
            raise FileFormatError(self._path, None, f"is not an .npz file: {error} [features]") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FileFormatError(self._path, None, "is not an .npz file [features]")
        return archive

    def matrix(self, segment: Segment, dimension: int) -> Matrix:
        """Return the features of a segment: (dimension, time) float32 in Fortran order.

        Args:
            segment: the segment.
            dimension: the number of rows if there is no file.

        Raises:
            FileFormatError: the file has no such matrix, or the corpus does not give the segment's end.
        """
        if not self.has_file:
            return np.zeros((dimension, _num_frames(segment)), dtype=np.float32, order="F")
        name = segment.full_name
        try:
            matrix = self._archive[name]
        except KeyError:
            problem = f"has no features of segment {name!r} [features]"
            raise FileFormatError(self._path, None, problem) from None
        except _UNREADABLE as error:
            raise FileFormatError(self._path, None, f"{name!r}: {error} [features]") from error
        if matrix.ndim != 2 or matrix.dtype.kind != "f":
            problem = f"the features of {name!r} are not a float matrix (dimension, time) [features]"
            raise FileFormatError(self._path, None, problem)
        return np.asfortranarray(matrix, dtype=np.float32)


def _num_frames(segment: Segment) -> int:
    num_frames = (segment.end - segment.start) / _FRAME_SHIFT
    if not math.isfinite(num_frames) or num_frames > _MAX_FRAMES:
        problem = f"segment {segment.full_name!r} has no end, so that its number of frames is unknown"
        raise segment.error(f"{problem} [features]")
    return round(num_frames)
