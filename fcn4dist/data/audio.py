"""Audio files: the one decoder, for `prepare` and for `tag`.

Any format, rate and number of channels that libsndfile reads becomes mono at one rate: the mean of the channels, resampled by
soxr's HQ, as `librosa.load(file, sr=rate_hz)` does it, but block by block, in memory that does not grow with the file.

A file's length is what was decoded. What an MP3's header says is a hint only: without a Xing frame it is an estimate from
the sizes of the file and of its first frame. Where that ends too early, libsndfile and so librosa hear only a part of the
file, as they do of a chain of Ogg streams; here the rest is heard too, as by a player.

Damaged is a file whose decoder failed or gave next to nothing; what was decoded before is used, and a note says so.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from fcn4dist.config import MelConfig

Float32 = NDArray[np.float32]

SILENT_PEAK = 1e-4  # full scale is 1; -80 dBFS
HUGE = 1e5  # no sound: more than 16-bit integers that somebody stored as floats without scaling them
RATES_HZ = (1_000, 768_000)
BLOCK_NUMBERS = (
    1 << 16
)  # decoded at once, over all channels; the caches hold it: 7.6 ms a clip of 29 s, 10.6 in one piece
KEPT_S = 600  # a longer piece is decoded twice, to count and to cut, so that memory stays flat
UNKNOWN_FRAMES = 1 << 48  # libsndfile reports 2**63 - 1 for streams that do not say how long they are
KNOWN_BY_NAME = (".gsm", ".vox")  # speech of telephones, without a header
UNKNOWN_BYTES = 0x7FFF0000  # in a WAV that was written into a pipe: this or more


class UnusableClipError(Exception):
    """A clip cannot be used; the message is the reason that the ledger keeps."""


@dataclass(frozen=True)
class Clip:
    """The middle of an audio file."""

    wave: Float32  # (num_samples,), mono, full scale is 1; zeros at the end where the piece is shorter
    duration_s: float  # of all that was decoded
    note: str | None  # what the ledger should say of a clip that is used all the same


@dataclass(frozen=True)
class Window:
    """One window of a piece."""

    start_s: float
    end_s: float  # where its sound ends: before start_s + mel.clip_s only in a piece that is shorter
    wave: Float32  # (mel.num_samples,), full scale is 1
    note: str | None = None  # on the last window: what is odd about the piece

    @property
    def is_silent(self) -> bool:
        """Whether training would have refused it: networks have never heard silence."""
        return _peak(self.wave) < SILENT_PEAK


def load_clip(file: Path, rate_hz: int, num_samples: int) -> Clip:
    """Return the middle of `file`, exactly `num_samples` at `rate_hz`.

    Equal to `librosa.load(file, sr=rate_hz)` and its samples [(n - m) // 2, (n + m) // 2) within 1e-4.
    Raises UnusableClipError with the reason: missing, empty, damaged, silent, not finite, of an impossible rate.
    """
    piece = Piece(file, rate_hz)
    # one array of the same size for every clip, so that malloc has its pages at hand: 1.5 ms less than blocks that are joined
    room, total = np.empty(max(KEPT_S * rate_hz, num_samples), np.float32), 0
    for block in piece.iter_blocks():
        if total + len(block) <= len(room):
            room[total : total + len(block)] = block
        total += len(block)
    if total <= len(room):
        wave = crop_or_pad(room[:total], num_samples).copy()
    else:
        middle = _iter_part(Piece(file, rate_hz).iter_blocks(), (total - num_samples) // 2, num_samples)
        wave = np.concatenate(list(middle))
    peak = _peak(wave)
    if peak < SILENT_PEAK:
        raise UnusableClipError(f"silent: peak {peak:.1e} of full scale")
    return Clip(wave, piece.duration_s, piece.note)


def crop_or_pad(wave: Float32, num_samples: int) -> Float32:
    """Return exactly `num_samples`: the middle of a longer wave, a shorter one with zeros at its end.

    The middle is [(n - num_samples) // 2, (n + num_samples) // 2), as in ModelZoo.
    """
    n = len(wave)
    if n < num_samples:
        return np.pad(wave, (0, num_samples - n))
    return wave[(n - num_samples) // 2 : (n + num_samples) // 2]


def iter_windows(file: Path, mel: MelConfig, hop_s: float) -> Iterator[Window]:
    """Yield the windows of `file`, mel.clip_s long, one every `hop_s`.

    The last one ends where the piece ends, so nothing is left out. A piece of one window is the clip that `load_clip` makes
    of it: a shorter one gets zeros at its end. Raises UnusableClipError with the reason: missing, empty, damaged, not finite,
    shorter than one frame. What was yielded before is then not the whole piece.
    """
    size, hop, rate_hz = mel.num_samples, max(1, round(hop_s * mel.sample_rate_hz)), mel.sample_rate_hz
    rest = mel.n_fft  # less than this at the end is not worth a window
    piece = Piece(file, rate_hz)
    kept = np.zeros(0, np.float32)  # the last samples of the piece so far, and the block that came in
    num_samples, start, heard = 0, 0, 0  # start: of the next window; heard: end of the last one

    def cut(start: int) -> Window:
        begin = start - (num_samples - len(kept))
        return Window(start / rate_hz, (start + size) / rate_hz, kept[begin : begin + size], piece.note)

    for block in piece.iter_blocks():
        kept = np.concatenate([kept, block])
        num_samples += len(block)
        while start + size + rest <= num_samples:
            yield cut(start)
            heard, start = start + size, start + hop
        kept = kept[-(size + rest) :]
    if num_samples < mel.n_fft:
        raise UnusableClipError(
            f"too short: {num_samples / rate_hz:.3f} s, {num_samples} samples at {rate_hz} Hz; "
            f"expected {mel.n_fft} or more, one frame of the spectrogram"
        )
    if heard == 0:  # one window: just the clip that training takes of such a piece
        begin = max(0, num_samples - size) // 2
        yield Window(begin / rate_hz, min(num_samples, begin + size) / rate_hz, crop_or_pad(kept, size), piece.note)
        return
    while start + size <= num_samples:
        yield cut(start)
        heard, start = start + size, start + hop
    if num_samples - heard >= rest:
        yield cut(num_samples - size)


class Piece:
    """An audio file as mono blocks at `rate_hz`; what became of it is known after the last block."""

    def __init__(self, file: Path, rate_hz: int) -> None:
        self.file = file
        self.rate_hz = rate_hz
        self.duration_s = 0.0  # of what was decoded
        self.note: str | None = None

    def iter_blocks(self) -> Iterator[Float32]:
        """Yield the piece; joined, its blocks are what `librosa.load` returns. Raises UnusableClipError."""
        self.duration_s, self.note = 0.0, None
        try:
            if self.file.is_dir():
                raise UnusableClipError("a folder, not a file")
            if self.file.stat().st_size == 0:
                raise UnusableClipError("empty file")
            with contextlib.ExitStack() as opened:
                source: Any = opened.enter_context(self.file.open("rb", buffering=0))
                try:
                    sound = _open(self.file if self.file.suffix.lower() in KNOWN_BY_NAME else source)
                except soundfile.SoundFileError as error:
                    source = opened.enter_context(tempfile.TemporaryFile(buffering=0))
                    sound = _open_past_junk(self.file, source, error)
                with sound:
                    yield from self._iter_resampled(sound, source)
                    if sound.format == "OGG":
                        for link in _iter_other_links(source):
                            yield from self._iter_resampled(link, source)
        except (FileNotFoundError, NotADirectoryError):
            raise UnusableClipError("no such file") from None
        except (OSError, soundfile.SoundFileError, ValueError) as error:
            raise UnusableClipError(describe_failure(error)) from None
        if self.duration_s == 0:
            raise UnusableClipError(self.note or "no samples")

    def _iter_resampled(self, sound: _Sound, raw: Any) -> Iterator[Float32]:
        from soxr import ResampleStream  # what librosa calls too, but for whole waves

        rate_hz, num_decoded, num_resampled = sound.samplerate, 0, 0
        low, high = RATES_HZ
        if not low <= rate_hz <= high:
            raise UnusableClipError(f"sample rate {rate_hz} Hz; expected {low} to {high}")
        resampler = ResampleStream(rate_hz, self.rate_hz, 1, dtype="float32", quality="HQ")
        for mono in self._iter_mono(sound, raw):
            _check_levels(mono, num_decoded, rate_hz)
            num_decoded += len(mono)
            block = mono if rate_hz == self.rate_hz else resampler.resample_chunk(mono)
            num_resampled += len(block)
            yield block
        num_samples = math.ceil(num_decoded * (self.rate_hz / rate_hz))  # librosa's own count, rounding and all
        if num_resampled < num_samples:
            last = resampler.resample_chunk(np.zeros(0, np.float32), last=True)[: num_samples - num_resampled]
            yield np.pad(last, (0, num_samples - num_resampled - len(last)))
        self._judge(sound, num_decoded)

    def _iter_mono(self, sound: _Sound, raw: Any) -> Iterator[Float32]:
        """Yield what can be decoded, also of a file whose header promises too little."""
        num_decoded = 0
        for block in self._iter_read(sound, raw):
            num_decoded += len(block)
            yield block
        if not _promises_too_little(sound, num_decoded, raw):
            return
        with _Endless(raw.fileno(), 0, access=mmap.ACCESS_COPY) as copy:
            for pattern, value in PROMISES:
                if found := pattern.search(copy):
                    copy[found.end() - len(value) : found.end()] = value
            with _open(copy) as longer:
                for block in self._iter_read(longer, copy):
                    if len(block) > num_decoded:
                        yield block[num_decoded:]
                    num_decoded = max(0, num_decoded - len(block))

    def _iter_read(self, sound: _Sound, source: Any) -> Iterator[Float32]:
        """Yield mono blocks as far as the decoder gets; `source` is the file that it reads."""
        buffer = np.empty((max(1, BLOCK_NUMBERS // sound.channels), sound.channels), np.float32)
        num_decoded, position = 0, -1
        while num_decoded < sound.frames:
            buffer.fill(np.nan)
            try:
                with _quiet_stderr():
                    block = sound.read(sound.frames - num_decoded, out=buffer)
            except soundfile.SoundFileError as error:
                block = buffer[: np.count_nonzero(np.isfinite(buffer[:, 0]))]  # what it wrote before it failed
                at_s = (num_decoded + len(block)) / sound.samplerate
                self.note = self.note or f"damaged after {at_s:.1f} s: {_strip(error)}"
                if source.tell() == position:
                    return
                position = source.tell()  # it may find its way again further on
            else:
                if len(block) == 0:
                    return
            num_decoded += len(block)
            if len(block):
                yield mix_down(block)

    def _judge(self, sound: _Sound, num_decoded: int) -> None:
        """Note what is short; raise UnusableClipError where next to nothing is left."""
        expected = _count_expected(sound)
        decoded_s = num_decoded / sound.samplerate
        self.duration_s += decoded_s
        if expected is not None and num_decoded < expected:
            self.note = (
                self.note or f"short: {decoded_s:.1f} s decoded, {expected / sound.samplerate:.1f} s in its header"
            )
        if self.note and self.duration_s < 1 and (expected is None or num_decoded < expected / 2):
            raise UnusableClipError(f"damaged: {decoded_s:.3f} s could be decoded ({self.note})")


class _Sound(soundfile.SoundFile):
    """A file that is read from its beginning to its end and no other way."""

    def seekable(self) -> bool:
        """Deny it: soundfile seeks to its place after every read, which is slow in MP3 and the end of a damaged file."""
        return False


class _Endless(mmap.mmap):
    """A file in memory that says it is very long, so that libmpg123 does not stop where it guesses the end from the length."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        base = (0, super().tell(), self.size())[whence]
        super().seek(min(max(0, base + offset), self.size()))  # mmap's own raises beyond the end

    def tell(self) -> int:
        position = super().tell()
        return position if position < self.size() else UNKNOWN_FRAMES


FRAME = rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x00-\xef]"  # begins a frame of MPEG-1, 2 or 2.5 audio
# two large frames: what an encoder may add beyond the end that it announces
MOST_PADDING_BYTES, MOST_PADDING_SAMPLES = 3000, 2304
MOST_JUNK_BYTES = 1 << 16
# counts in headers that end a file too early, and what promises more
PROMISES = [
    (re.compile(rb"\xff[\xe2-\xff]..\x00{9,32}(?:Xing|Info)\x00{3}[\x01-\xff]....", re.DOTALL), b"\x3f\xff\xff\xff"),
    (re.compile(rb"\ARIFF....WAVE.{0,4096}?data\x00{4}", re.DOTALL), b"\xff\xff\xff\xff"),  # a recorder that was killed
]


def _promises_too_little(sound: _Sound, num_decoded: int, raw: Any) -> bool:
    """Whether an MP3 has frames beyond the count of its header or an estimate, or a WAV says that it has no samples."""
    if sound.format == "MP3" and num_decoded == sound.frames:
        rest_bytes = os.fstat(raw.fileno()).st_size - raw.tell()
        padding_bytes = min(MOST_PADDING_BYTES, MOST_PADDING_SAMPLES * raw.tell() // max(1, num_decoded))
        return rest_bytes > padding_bytes and re.match(FRAME + rb"|ID3", raw.read(3)) is not None
    return sound.format in ("WAV", "WAVEX") and num_decoded == 0


def _iter_other_links(raw: Any) -> Iterator[_Sound]:
    """Yield the links of a chain of Ogg streams after the first, which is all that libsndfile reads."""
    with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts = [page.start() for page in re.finditer(rb"OggS\x00\x02", data)]  # pages that begin a stream
        for start, end in itertools.pairwise([*starts[1:], len(data)]):
            with contextlib.suppress(soundfile.SoundFileError), _open(io.BytesIO(data[start:end])) as link:
                yield link


def _count_expected(sound: _Sound) -> int | None:
    """Return how many frames the header promises, where such a count is exact."""
    if sound.format == "MP3" or sound.frames >= UNKNOWN_FRAMES:
        return None
    # libsndfile takes a count that the file is too short for back, and keeps what it read in its log
    sizes = re.search(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if sizes is None or int(sizes[1]) >= UNKNOWN_BYTES:
        return int(sound.frames)
    return int(sound.frames) * int(sizes[1]) // max(1, int(sizes[2]))


def _open(source: Any) -> _Sound:
    """Open a raw file by its descriptor, so that its name is no matter; or a path, or a file in memory."""
    with _quiet_stderr():
        return _Sound(source.fileno(), closefd=False) if isinstance(source, io.RawIOBase) else _Sound(source)


def _open_past_junk(file: Path, rest: IO[bytes], error: Exception) -> _Sound:
    """Open an MP3 that begins with something else, from its first frame on, copied to the empty file `rest`.

    Raises UnusableClipError with what is wrong with any other file that libsndfile does not know.
    """
    with file.open("rb") as opened:
        data, suffix = opened.read(MOST_JUNK_BYTES), file.suffix.lower()
        if data[4:8] == b"ftyp":
            raise UnusableClipError(
                "AAC/M4A: libsndfile does not read it; convert it to WAV or FLAC, for example with ffmpeg"
            )
        if suffix in (".raw", ".pcm"):
            raise UnusableClipError("raw samples have no header: nothing says their rate and type; convert them to WAV")
        for frame in itertools.islice(re.finditer(FRAME, data), 50 if suffix == ".mp3" else 0):
            opened.seek(frame.start())
            rest.seek(0)
            shutil.copyfileobj(opened, rest)
            rest.truncate()
            rest.seek(0)
            with contextlib.suppress(soundfile.SoundFileError):
                return _open(rest)
    raise UnusableClipError(describe_failure(error))


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what C libraries write to stderr meanwhile: libmpg123 has a line for each frame that it cannot read."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_levels(mono: Float32, num_before: int, rate_hz: int) -> None:
    """Raise UnusableClipError where samples are not finite or far beyond any sound."""
    if mono.min() >= -HUGE and mono.max() <= HUGE:  # false with a NaN
        return
    at = int(np.argmax(~(np.abs(mono) <= HUGE)))
    place = f"sample {num_before + at}, at {(num_before + at) / rate_hz:.3f} s"
    if not np.isfinite(mono[at]):
        raise UnusableClipError(f"holds NaN or infinite samples: {place}")
    raise UnusableClipError(f"damaged: {place}, is {mono[at]:.1e} times full scale")


def _iter_part(blocks: Iterator[Float32], first: int, num_samples: int) -> Iterator[Float32]:
    """Yield samples [first, first + num_samples) of a piece."""
    for block in blocks:
        if first < len(block):
            part = block[max(0, first) : first + num_samples]
            yield part
            num_samples -= len(part)
            if num_samples == 0:
                return
        first = max(0, first - len(block))


def _peak(wave: Float32) -> float:
    return float(max(-wave.min(), wave.max()))


def mix_down(block: Float32) -> Float32:
    """Return the mean of the channels of (frames, channels); NumPy's own mean over such short rows takes 14 ms a clip for 0.4."""
    if block.shape[1] == 1:
        return block[:, 0].copy()
    with np.errstate(over="ignore", invalid="ignore"):  # of damaged floats; what is not finite is refused
        mono: Float32 = block[:, 0] + block[:, 1]
        for channel in range(2, block.shape[1]):
            mono += block[:, channel]
    mono /= np.float32(block.shape[1])
    return mono


def describe_failure(error: Exception) -> str:
    """Return in words why a file that is there could not be read or decoded."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return f"cannot be decoded: {_strip(error)}"


def _strip(error: Exception) -> str:
    """Return what libsndfile says, without its flourishes."""
    text = str(getattr(error, "error_string", None) or error).removeprefix("Error : ").rstrip(".")
    unknown = ("File does not exist", "Format not recognised", "File contains data in an unknown format")
    return "not audio, or damaged" if text.startswith(unknown) else text
