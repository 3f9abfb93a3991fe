"""The segments in the order in which Sprint visits them.

Without options that is the order of the corpus. Of RASR's options the following are offered, all at the
component ``corpus``: ``file``, ``segments.file`` (keep only the segments listed there),
``segment-order`` (a file with names), ``segment-order-look-up-short-name``,
``remove-corpus-name-prefix``, ``capitalize-transcriptions``, ``gemenize-transcriptions``, and
``python-segment-order`` with its module's path, name and config and
``python-segment-order-with-segment-info``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Optional

from shmbridge.errors import FileFormatError

from .configuration import Configuration
from .console import CriticalError
from .corpus import WHITESPACE, Corpus, CorpusOptions, Segment, read_corpus
from .python_calls import call, import_module, report_exception

__all__ = ["load_corpus", "visit"]


def load_corpus(config: Configuration) -> Corpus:
    """Read the corpus that the component's options name.

    Errors:
        OptionError: no file is named.
        FileFormatError: it is missing or malformed.
    """
    options = CorpusOptions(
        remove_prefix=config.string("remove-corpus-name-prefix"),
        upper_case=config.boolean("capitalize-transcriptions", False),
        lower_case=config.boolean("gemenize-transcriptions", False),
        resolve=config.resolve,
    )
    return read_corpus(config.required("file"), options)


def visit(config: Configuration, corpus: Optional[Corpus] = None) -> Iterator[Segment]:
    """Yield the segments in the order of visiting.

    The user's getSegmentList is called once the whole corpus was read; if it is a generator, it runs only
    as far as segments are asked for, so calls to it and to other parts of the module take turns.

    Args:
        config: the options of the component ``corpus``.
        corpus: the corpus, where it was read already.

    Errors:
        FileFormatError: a file is missing or malformed.
        CriticalError: the user's module failed, or named a segment that does not exist.
    """
    short_names = config.boolean("segment-order-look-up-short-name", False)
    module = None
    if config.boolean("python-segment-order", False):
        # RASR imports the module before it reads the corpus.
        module = import_module(
            config.string("python-segment-order-pymod-path"),
            config.string("python-segment-order-pymod-name"),
            "python-segment-order",
        )
    kept_file = config.select("segments").string("file")
    kept = _read_names(kept_file)
    if kept == []:
        raise FileFormatError(kept_file, None, "lists no segments [segment-list]")
    order_file = config.string("segment-order")
    if corpus is None:
        corpus = load_corpus(config)
    if module is None and not order_file:
        segments: Iterable[Segment] = corpus.segments
    else:
        by_name = _by_name(corpus, short_names)
        listed = _read_names(order_file)
        names: Iterable[str] = list(by_name) if listed is None else listed
        if module is not None:
            names = _ask(module, config, corpus, list(names), by_name)
        segments = (_look_up(name, by_name) for name in names)
    # RASR's filter stands behind the ordering: getSegmentList sees all segments.
    keep = None if kept is None else frozenset(kept)
    for segment in segments:
        if keep is None or segment.full_name in keep or segment.name in keep:
            yield segment


def _by_name(corpus: Corpus, short_names: bool) -> dict[str, Segment]:
    by_name: dict[str, Segment] = {}
    for segment in corpus.segments:
        name = segment.name if short_names else segment.full_name
        if name in by_name:
            raise FileFormatError(segment.path, segment.line, f"segment {name!r} is already defined [corpus]")
        by_name[name] = segment
    return by_name


def _look_up(name: str, by_name: dict[str, Segment]) -> Segment:
    # RASR's CustomCorpusGuide::showSegmentByName reports "segment '…' not found" as an error of the
    # application and would then go on; but an error, unless on-error says otherwise, ends the process.
    if name not in by_name:
        raise CriticalError(f"segment {name!r} not found [segment-list]")
    return by_name[name]


def _ask(
    module: Any, config: Configuration, corpus: Corpus, names: list[str], by_name: dict[str, Segment]
) -> Iterator[str]:
    info = None
    if config.boolean("python-segment-order-with-segment-info", False):
        info = {name: {"time": by_name[name].end - by_name[name].start} for name in names}
    answer = call(
        module,
        "getSegmentList",
        corpusName=corpus.name,
        segmentList=names,
        segmentsInfo=info,
        config=config.string("python-segment-order-config"),
    )
    try:
        iterator = iter(answer)
    except Exception:
        report_exception()
        problem = "PYTHON ERROR: getSegmentList() did not return an iterable object [python-error]"
        raise CriticalError(problem) from None
    while True:
        try:
            name = next(iterator)
        except StopIteration:
            return
        except SystemExit:
            raise
        except BaseException:
            report_exception()
            raise CriticalError(
                "PYTHON ERROR: getSegmentList() failed to give the next segment [python-error]"
            ) from None
        # Exactly str: RASR does not take a subclass.
        if type(name) is not str:
            raise CriticalError(
                f"PYTHON ERROR: a segment name is not a string but a {type(name).__name__} [python-error]"
            )
        yield name


def _read_names(path: str) -> Optional[list[str]]:
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip(WHITESPACE) for line in file if not line.startswith("#")]
    except OSError as error:
        raise FileFormatError(path, None, f"cannot be read: {error.strerror} [file-unreadable]") from error
    except ValueError as error:
        raise FileFormatError(
            path, None, f"is not a text file in UTF-8: {error} [file-unreadable]"
        ) from error
    return [line for line in lines if line]
