"""getSegmentList: Sprint processes segments in the order in which the parent requests them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Optional

from .connect import connect
from .output import log_call


def getSegmentList(  # noqa: N802 - the name that Sprint calls
    corpusName: str,  # noqa: N803
    segmentList: list[str],  # noqa: N803
    config: str,
    segmentsInfo: Optional[Mapping[str, Mapping[str, float]]] = None,  # noqa: N803
    **_newer: object,
) -> Iterator[str]:
    """Yield the full names of the segments that the parent requests, until the connection ends.

    RASR's PythonSegmentOrder calls this with all arguments by keyword, possibly before `init`. Sprint works
    on a segment until it takes the next name.

    Args:
        corpusName: the name of the root corpus.
        segmentList: the full names of all segments of the corpus. A request for any other is rejected.
        config: the value of Sprint's option python-segment-order-config, which the parent writes.
        segmentsInfo: for each segment {"nframes": int, "time": float}; None unless Sprint has
            python-segment-order-with-segment-info=true. Not used.
        _newer: keywords that a newer RASR may add. Not used.

    Raises:
        OptionError, PeerGoneError, ProtocolError, ResourceError: see `init`.
    """
    control = connect(name="shmbridge.PythonSegmentOrder", config=config)
    log_call(f"getSegmentList: corpus {corpusName!r}, {len(segmentList)} segments")
    if control.in_callback:
        # Sprint collects the orthographies of the whole corpus, to answer its callback.
        yield from segmentList
        return
    control.check_control_loop_running()
    yield from control.segment_list_iterator(known=dict.fromkeys(segmentList))
