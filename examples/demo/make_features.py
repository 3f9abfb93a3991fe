"""Make the shipped data of the demonstration: features, corpus, lexicon. Needs espeak-ng.

    python -m examples.demo.make_features

The demonstration itself does not run this: what it writes is in `data/`. The same version of espeak-ng
gives the same bytes again, because every choice comes from one seeded generator.
"""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SEED = 20261122
DATA = Path(__file__).parent / "data"

CORPUS_NAME = "demo"
NUM_TRAIN = 600
NUM_HELD_OUT_KNOWN_VOICES = 50
NUM_HELD_OUT_NEW_VOICES = 50

# espeak-ng's own rate. Its synthesis has little above 8 kHz, so the mel bands end there.
SAMPLE_RATE = 22050
FRAME_LENGTH = 552  # 25 ms
FRAME_SHIFT = 220  # 10 ms (9.98)
FFT_SIZE = 1024
NUM_MEL_BANDS = 24
MEL_RANGE_HZ = (80.0, 8000.0)

# American and British. Not "en-gb": espeak-ng 1.51 silently drops the variant after that name.
ACCENTS = ("en-us", "en")
# A voice is an accent with one of espeak-ng's variants: other formants, other glottal source, other breath.
TRAIN_VARIANTS = (
    "m1", "m2", "m4", "m5", "m7", "m8", "f1", "f2", "f3", "f5",
    "klatt", "klatt3", "Alex", "Annie", "Denis", "Gene", "Hugo", "Jacky", "Lee", "Marco", "Mario",
    "adam", "belinda", "david", "john", "linda", "paul", "quincy", "rob", "shelby", "steph", "victor",
)  # fmt: skip
NEW_VARIANTS = ("m3", "f4", "Andrea", "Michael", "klatt2")

# One pronunciation for each word, that of the American voices; the British ones differ from it here
# and there (no "r" in "four"), as speakers do from a lexicon.
PRONUNCIATIONS = {
    "zero": "z ih r ow",
    "one": "w ah n",
    "two": "t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f ay v",
    "six": "s ih k s",
    "seven": "s eh v ah n",
    "eight": "ey t",
    "nine": "n ay n",
    "call": "k ao l",
    "dial": "d ay l",
    "play": "p l ey",
    "stop": "s t aa p",
    "next": "n eh k s t",
    "channel": "ch ae n ah l",
    "number": "n ah m b er",
    "please": "p l iy z",
    "again": "ah g eh n",
    "now": "n aw",
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VERBS = ("call", "dial", "play", "stop", "next")
NOUNS = ("channel", "number")
TAILS = ("please", "again", "now")
# Phrases of two to five words: V verb, N noun, D digit, T tail.
PHRASES = (
    "DDD",
    "DDDD",
    "DDDDD",
    "VDD",
    "VDDD",
    "VDDDD",
    "VND",
    "VNDD",
    "VNDDD",
    "VNDT",
    "VDT",
    "VDDT",
    "VT",
)

SILENCE = "si"
BLANK = "blank"


@dataclass(frozen=True)
class Utterance:
    """One segment: its names, its words, and the voice that speaks them."""

    recording: str
    words: tuple[str, ...]
    voice: str
    words_per_minute: int
    pitch: int

    @property
    def segment_name(self) -> str:
        """The full segment name, as Sprint has it."""
        return f"{CORPUS_NAME}/{self.recording}/1"


def main() -> int:
    """Write features.npz, corpus.xml.gz and lexicon.xml."""
    espeak = shutil.which("espeak-ng")
    if espeak is None:
        print("espeak-ng is not installed (Debian: apt-get install espeak-ng)", file=sys.stderr)
        return 1
    check_voices(espeak)
    rng = np.random.default_rng(SEED)
    utterances = plan(rng)

    log_mels = []
    durations = []
    for utterance in utterances:
        samples = record(synthesize(espeak, utterance), rng)
        durations.append(len(samples) / SAMPLE_RATE)
        log_mels.append(log_mel(samples))

    DATA.mkdir(exist_ok=True)
    write_features(DATA / "features.npz", [u.segment_name for u in utterances], log_mels)
    write_corpus(DATA / "corpus.xml.gz", utterances, durations)
    write_lexicon(DATA / "lexicon.xml")
    print(
        f"{len(utterances)} segments, {sum(durations):.0f} s, {sum(len(x) for x in log_mels)} frames, "
        f"features.npz {(DATA / 'features.npz').stat().st_size / 1e6:.2f} MB"
    )
    return 0


def plan(rng: np.random.Generator) -> list[Utterance]:
    """Draw words and voices.

    No word sequence of a held-out segment occurs in training. Half of the held-out segments are spoken by
    voices of the training, half by voices (variants) that training never hears.
    """

    def draw_words() -> tuple[str, ...]:
        kinds = {"D": DIGITS, "V": VERBS, "N": NOUNS, "T": TAILS}
        phrase = PHRASES[rng.integers(len(PHRASES))]
        return tuple(str(rng.choice(kinds[kind])) for kind in phrase)

    def draw(recording: str, words: tuple[str, ...], variants: Sequence[str]) -> Utterance:
        voice = f"{rng.choice(ACCENTS)}+{rng.choice(variants)}"
        return Utterance(recording, words, voice, int(rng.integers(125, 196)), int(rng.integers(25, 76)))

    utterances = [
        draw(f"train-{number:04d}", draw_words(), TRAIN_VARIANTS) for number in range(1, NUM_TRAIN + 1)
    ]
    taken = {utterance.words for utterance in utterances}
    for number in range(1, NUM_HELD_OUT_KNOWN_VOICES + NUM_HELD_OUT_NEW_VOICES + 1):
        words = draw_words()
        while words in taken:
            words = draw_words()
        taken.add(words)
        if number <= NUM_HELD_OUT_KNOWN_VOICES:
            utterances.append(draw(f"heldout-known-voice-{number:04d}", words, TRAIN_VARIANTS))
        else:
            utterances.append(draw(f"heldout-new-voice-{number:04d}", words, NEW_VARIANTS))
    return utterances


def check_voices(espeak: str) -> None:
    """Raise ValueError if two voices sound the same: espeak-ng takes unknown variants without a word."""
    heard: dict[bytes, str] = {}
    for voice in (f"{accent}+{variant}" for accent in ACCENTS for variant in TRAIN_VARIANTS + NEW_VARIANTS):
        sound = synthesize(espeak, Utterance("check", ("number", "four"), voice, 150, 50)).tobytes()
        if sound in heard:
            raise ValueError(f"espeak-ng makes no difference between {heard[sound]} and {voice}")
        heard[sound] = voice


def synthesize(espeak: str, utterance: Utterance) -> FloatArray:
    """Speak an utterance: samples, (time,), about -1 to 1."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(
            [
                espeak,
                *("-v", utterance.voice),
                *("-s", str(utterance.words_per_minute)),
                *("-p", str(utterance.pitch)),
                *("-w", str(path)),
                " ".join(utterance.words),
            ],
            check=True,
        )
        with wave.open(str(path)) as stream:
            if (stream.getframerate(), stream.getnchannels(), stream.getsampwidth()) != (SAMPLE_RATE, 1, 2):
                raise ValueError(f"espeak-ng wrote {stream.getparams()}, not {SAMPLE_RATE} Hz mono 16 bit")
            samples = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 200)
    if not len(loud):
        raise ValueError(f"espeak-ng said nothing for {utterance}")
    return samples[loud[0] : loud[-1] + 1].astype(np.float64) / 32768.0


def record(speech: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Put the speech into a room with a microphone: pauses, reverberation, spectral tilt, noise, level."""
    before, after = rng.uniform(0.05, 0.25, size=2)
    speech = np.concatenate([np.zeros(int(before * SAMPLE_RATE)), speech, np.zeros(int(after * SAMPLE_RATE))])

    # The tail of the room: exponentially decaying noise, 10 to 25 dB below the direct sound.
    decay_s = rng.uniform(0.08, 0.3)
    tail_time = np.arange(int(decay_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(tail_time)) * np.exp(-6.9 * tail_time / decay_s)
    tail *= 10 ** (-rng.uniform(10, 25) / 20) / np.linalg.norm(tail)
    tail[0] = 1.0
    speech = fft_filter(speech, tail)

    # The microphone: up to 3 dB for each octave up or down, around 1 kHz.
    speech = spectral_tilt(speech, rng.uniform(-3, 3))

    # The noise: between white and pink, 12 to 30 dB below the speech.
    noise = spectral_tilt(rng.standard_normal(len(speech)), rng.uniform(-4, 0))
    snr_db = rng.uniform(12, 30)
    noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return (speech + noise) * 10 ** (rng.uniform(-12, 0) / 20)


def fft_filter(samples: FloatArray, impulse_response: FloatArray) -> FloatArray:
    """Convolve, keep the length of samples."""
    size = len(samples) + len(impulse_response)
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(impulse_response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)]


def spectral_tilt(samples: FloatArray, db_per_octave: float) -> FloatArray:
    """Weight the spectrum by a straight line in dB over octaves, 0 dB at 1 kHz."""
    spectrum = np.fft.rfft(samples)
    hertz = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), 50.0)
    return np.fft.irfft(spectrum * 10 ** (db_per_octave * np.log2(hertz / 1000.0) / 20), len(samples))


def log_mel(samples: FloatArray) -> FloatArray:
    """Log mel energies, natural logarithm: (time, mel band)."""
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, FRAME_LENGTH)[::FRAME_SHIFT]
    power = np.abs(np.fft.rfft(frames * np.hamming(FRAME_LENGTH), FFT_SIZE)) ** 2
    return np.asarray(np.log(power @ mel_filters().T + 1e-8))


def mel_filters() -> FloatArray:
    """Triangular filters: (mel band, FFT bin)."""
    low, high = (2595.0 * np.log10(1.0 + hertz / 700.0) for hertz in MEL_RANGE_HZ)
    corners = 700.0 * (10.0 ** (np.linspace(low, high, NUM_MEL_BANDS + 2) / 2595.0) - 1.0)
    hertz = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLE_RATE)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising = (hertz - left) / (centre - left)
    falling = (right - hertz) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def write_features(path: Path, segment_names: Sequence[str], log_mels: Sequence[FloatArray]) -> None:
    """Write uint8 (time, mel band) by full segment name, and `log_mel_range`: what 0 and 255 mean."""
    low = min(float(features.min()) for features in log_mels)
    high = max(float(features.max()) for features in log_mels)
    arrays: dict[str, npt.NDArray[np.generic]] = {
        name: np.round((features - low) * (255.0 / (high - low))).astype(np.uint8)
        for name, features in zip(segment_names, log_mels)
    }
    np.savez_compressed(path, log_mel_range=np.array([low, high], dtype=np.float32), **arrays)  # type: ignore[arg-type]


def write_corpus(path: Path, utterances: Sequence[Utterance], durations: Sequence[float]) -> None:
    """Write the Bliss corpus."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<corpus name={quoteattr(CORPUS_NAME)}>"]
    for voice in sorted({utterance.voice for utterance in utterances}):
        lines.append(f"  <speaker-description name={quoteattr(voice)}/>")
    for utterance, duration in zip(utterances, durations):
        lines += [
            f'  <recording name="{utterance.recording}" audio="{utterance.recording}.wav">',
            f'    <segment name="1" start="0.000" end="{duration:.3f}">',
            f"      <speaker name={quoteattr(utterance.voice)}/>",
            f"      <orth> {escape(' '.join(utterance.words))} </orth>",
            "    </segment>",
            "  </recording>",
        ]
    lines.append("</corpus>\n")
    # No name and no time in the header: the same corpus gives the same bytes.
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as stream:
        stream.write("\n".join(lines).encode())
    path.write_bytes(buffer.getvalue())


def write_lexicon(path: Path) -> None:
    """Write the Bliss lexicon. Sprint wants the silence and blank lemmas not to come first."""
    phonemes = sorted({phoneme for phones in PRONUNCIATIONS.values() for phoneme in phones.split()})
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<lexicon>", "  <phoneme-inventory>"]
    for phoneme in phonemes:
        lines.append(f"    <phoneme><symbol>{phoneme}</symbol></phoneme>")
    for phoneme in (SILENCE, BLANK):
        lines.append(f"    <phoneme><symbol>{phoneme}</symbol><variation>none</variation></phoneme>")
    lines.append("  </phoneme-inventory>")
    for word, phones in PRONUNCIATIONS.items():
        lines.append(f"  <lemma><orth>{word}</orth><phon>{phones}</phon></lemma>")
    for special, orth, phoneme in (("silence", "[SILENCE]", SILENCE), ("blank", "[BLANK]", BLANK)):
        lines.append(
            f'  <lemma special="{special}"><orth>{orth}</orth><phon>{phoneme}</phon><synt/><eval/></lemma>'
        )
    lines.append("</lexicon>\n")
    path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
