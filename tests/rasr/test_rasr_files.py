"""The generated files, and the arguments that the command rejects."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from examples import rasr
from shmbridge.bliss.corpus import read_corpus
from shmbridge.bliss.lexicon import read_lexicon

ROOT = Path(rasr.__file__).resolve().parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.rasr", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def read_archive(data: bytes) -> dict[str, bytes]:
    """Return the files of an archive. Check that its table agrees with a scan."""
    assert data[:9] == b"SP_ARC1\0\1"

    def string(at: int) -> tuple[str, int]:
        (length,) = struct.unpack_from("<I", data, at)
        return data[at + 4 : at + 4 + length].decode(), at + 4 + length

    (table,) = struct.unpack_from("<Q", data, len(data) - 8)
    by_table = {}
    (count,) = struct.unpack_from("<I", data, table)
    at = table + 4
    for _ in range(count):
        name, at = string(at)
        position, size, compressed = struct.unpack_from("<QII", data, at)
        at += 16
        assert compressed == 0
        by_table[name] = data[position + 12 : position + 12 + size]
    scanned = {}
    at = 9
    while at < table:
        assert struct.unpack_from("<I", data, at) == (0xAA55AA55,)
        name, at = string(at + 4)
        size, compressed, _ = struct.unpack_from("<III", data, at)
        scanned[name] = data[at + 12 : at + 12 + size]
        at += 12 + size
        assert struct.unpack_from("<I", data, at) == (0x55AA55AA,)
        at += 4
    assert scanned == by_table
    return by_table


def test_the_command_writes_the_requested_labels_and_segments(tmp_path):
    folder = tmp_path / "made" / "here"
    done = run(folder, "--labels", 30, "--segments", 5, "--frames", 200, "--seed", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert "30 labels" in done.stdout
    lexicon = read_lexicon(str(folder / "lexicon.xml"))
    assert len(lexicon.phonemes) == 30
    assert lexicon.blank() == 29
    segments = read_corpus(str(folder / "corpus.xml")).segments
    assert len(segments) == 6
    assert round((segments[0].end - segments[0].start) * 100) == 200
    for way in ("iterate", "trainer", "loop", "order"):
        assert f"--config={folder}/{way}.config" in done.stdout
        assert (folder / f"{way}.config").exists()


def test_corpus_lexicon_and_cache_agree_with_the_task(tmp_path):
    task = rasr.make_task(labels=12, segments=4, frames=50, seed=2)
    rasr.write(tmp_path, task)
    lexicon = read_lexicon(str(tmp_path / "lexicon.xml"))
    assert lexicon.phonemes == task.phonemes
    # RASR crashes if the first lemma has one phoneme.
    assert min(len(p.phonemes) for p in lexicon.lemmas[0].pronunciations) >= 2
    said = {lemma.orthographies[0][0]: lemma for lemma in lexicon.lemmas}
    cache = read_archive((tmp_path / "features.cache").read_bytes())
    corpus = read_corpus(str(tmp_path / "corpus.xml")).segments
    assert [segment.full_name for segment in corpus] == [segment.full_name for segment in task.segments]
    for in_corpus, segment in zip(corpus, task.segments):
        words = in_corpus.orthography.split()
        assert words == [word.orthography for word in segment.words]
        for word in segment.words:
            pronunciations = {p.phonemes for p in said[word.orthography].pronunciations}
            assert pronunciations == set(word.pronunciations)
        features = cache[segment.full_name]
        assert features[:14] == struct.pack("<I", 10) + b"vector-f32"
        assert struct.unpack_from("<I", features, 14) == (segment.frames,)
        assert len(features) == 18 + segment.frames * (4 + 2 * 4 + 16)
        assert f"{segment.full_name}.attribs" in cache


def test_the_same_arguments_give_the_same_files(tmp_path):
    for folder in ("one", "other"):
        rasr.write(tmp_path / folder, rasr.make_task(labels=8, segments=8, frames=40))
    for name in ("corpus.xml", "lexicon.xml", "features.cache"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize("labels", [5, 6, 7, 200])
def test_every_segment_but_the_last_has_enough_frames(labels):
    task = rasr.make_task(labels=labels, segments=50, frames=11)
    for segment in task.segments:
        needed = min(
            len(sequence) + sum(a == b for a, b in zip(sequence, sequence[1:]))
            for _, sequence in task.label_sequences(segment.full_name)
        )
        assert (needed <= segment.frames) == (segment is not task.segments[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "4"], "labels is 4; it must be at least 5"),
        (["--segments", "0"], "segments is 0"),
        (["--frames", "9"], "frames is 9"),
    ],
)
def test_a_wrong_argument_is_rejected_with_its_value(tmp_path, arguments, message):
    done = run(tmp_path, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_rasrs_configs_cannot_contain_is_rejected(tmp_path):
    done = run(tmp_path / "with blank # and sign")
    assert done.returncode == 1
    assert "RASR's config files cannot contain" in done.stderr
    assert os.listdir(tmp_path) == []
