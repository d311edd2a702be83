"""Audio files byte for byte as other programs make them, and what a player says of each.

The encoders are those of libsndfile, which are at hand everywhere. It writes orderly files, so the disorder is made here: the
info frame ("Xing") of an MP3 is taken out or given a wrong count, tags, cover art and junk are put around the frames, headers
get other numbers, pages are damaged. What lame and ffmpeg themselves wrote is in recorded/.

Each piece is soft noise with one loud burst in its middle, so that it shows without any decoder whether a clip is the middle.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

LENGTH_S = 6.0
KBITS = {  # of an MP3 by the 4 bits of its frame header: MPEG-1, and MPEG-2 and 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
AAC = "AAC/M4A: libsndfile does not read it; convert it to WAV or FLAC, for example with ffmpeg"
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclass(frozen=True)
class Animal:
    """One file of the zoo."""

    name: str
    data: bytes
    refused: str | None = None  # the reason, where it is not usable
    note: str | None = None  # what is said of it, where it is used all the same
    length_s: float = LENGTH_S  # what a player plays
    is_centred: bool = True  # the burst is in the middle of what can be decoded
    twins: tuple[bytes, ...] = ()  # the same sound in orderly files, where librosa itself hears only a part or fails


def make_piece(rate_hz: int, channels: int = 1, loud_s: float = 0.0) -> np.ndarray:
    """Return (samples, channels): noise, a burst in the middle, and tones in the first `loud_s`, which cost an encoder bits."""
    rng = np.random.default_rng(rate_hz + channels)
    wave = rng.normal(0, 0.02, (round(LENGTH_S * rate_hz), channels))
    middle, half = len(wave) // 2, rate_hz // 40
    wave[middle - half : middle + half] += rng.normal(0, 0.25, (2 * half, channels))
    loud = round(loud_s * rate_hz)
    wave[:loud] += rng.normal(0, 0.05, (loud, channels))
    return wave.clip(-0.99, 0.99).astype(np.float32)


def encode(wave: np.ndarray, rate_hz: int, container: str, subtype: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=container, subtype=subtype, **options)
    return buffer.getvalue()


def in_wav(data: bytes) -> bytes:
    """Return what libsndfile decodes as floats in a WAV, for files that cannot seek, which librosa refuses."""
    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        return encode(sound.read(sound.frames, dtype="float32"), sound.samplerate, "WAV", "FLOAT")


def encode_mp3(rate_hz: int, channels: int = 1, *, level: float, mode: str = "CONSTANT", loud_s: float = 0.0) -> bytes:
    wave = make_piece(rate_hz, channels, loud_s)
    return encode(wave, rate_hz, "MP3", "MPEG_LAYER_III", compression_level=level, bitrate_mode=mode)


def split_frames(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return the info frame of an MP3 that begins with one (else nothing), and the frames of sound."""
    frames, at = [], 0
    while at + 4 <= len(data):
        header = int.from_bytes(data[at : at + 4], "big")
        if header >> 21 != 0x7FF:
            break
        version, kbit, rate, padding = header >> 19 & 3, header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
        scale = 144_000 if version == 3 else 72_000
        size = scale * KBITS[version == 3][kbit] // RATES_HZ[version][rate] + padding
        frames.append(data[at : at + size])
        at += size
    has_info = b"Xing" in frames[0][:48] or b"Info" in frames[0][:48]
    return (frames[0], frames[1:]) if has_info else (b"", frames)


def without_info(data: bytes) -> bytes:
    return b"".join(split_frames(data)[1])


def with_count(data: bytes, factor: float) -> bytes:
    """Return an MP3 whose info frame announces `factor` times its frames."""
    info, frames = split_frames(data)
    at = max(info.find(b"Xing"), info.find(b"Info")) + 8
    count = round(factor * len(frames))
    return info[:at] + struct.pack(">I", count) + info[at + 4 :] + b"".join(frames)


def id3v2(size: int) -> bytes:
    """Return an ID3v2.3 tag of `size` bytes after its header: cover art, which may look like frames of sound."""
    picture = b"APIC" + struct.pack(">IH", size - 10, 0) + b"\0image/jpeg\0\3\0" + b"\xff\xd8\xff\xe0"
    body = (picture + np.random.default_rng(size).bytes(size))[:size]
    return b"ID3\3\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def id3v1() -> bytes:
    return (b"TAG" + b"title".ljust(30, b"\0") + b"artist".ljust(30, b"\0")).ljust(127, b"\0") + b"\x0c"


def ape(size: int) -> bytes:
    """Return an APEv2 tag with header and footer around one item of `size` bytes."""
    item = struct.pack("<II", size, 0) + b"Lyrics\0" + b"la " * (size // 3) + b" " * (size % 3)
    ends = [
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    ]
    return ends[0] + item + ends[1]


def iter_mp3s() -> Iterator[Animal]:
    clip = encode_mp3(16_000, level=0.85)  # 32 kbit/s: MagnaTagATune's kind
    song = encode_mp3(44_100, 2, level=0.65)  # 128 kbit/s
    bare, bare_song = without_info(clip), without_info(song)
    frames = split_frames(clip)[1]
    half = len(frames) // 2
    yield Animal("id3v2, no xing.mp3", id3v2(2048) + bare)
    yield Animal("cover art, no xing.mp3", id3v2(300_000) + bare_song)
    yield Animal("cover art and xing.mp3", id3v2(300_000) + song)
    for name, loud_s in (("loud", 0.5), ("soft", 0.0)):
        vbr = encode_mp3(44_100, 2, level=0.5, mode="VARIABLE", loud_s=loud_s)
        bare_vbr = without_info(vbr)
        # libsndfile stops where it guesses the end, from the sizes of file and first frame; a large tag makes it go on
        twin = id3v2(1_000_000) + bare_vbr
        yield Animal(f"vbr with a {name} beginning, no xing.mp3", bare_vbr, twins=(twin,))
    yield Animal("xing says half.mp3", with_count(song, 0.5), twins=(with_count(song, 2),))
    yield Animal("xing says twice.mp3", with_count(song, 2))
    yield Animal("id3v1 and ape at the end.mp3", bare + ape(5000) + id3v1())
    yield Animal("xing, id3v1 and ape at the end.mp3", song + ape(50_000) + id3v1())
    yield Animal("two id3v2 tags.mp3", id3v2(1000) + id3v2(3000) + bare)
    little, much = (b"".join([*frames[:half], b"junk!" * (size // 5), *frames[half:]]) for size in (300, 5000))
    yield Animal("300 bytes of junk between frames.mp3", little)
    yield Animal("5000 bytes of junk between frames.mp3", much, note="damaged after 3.0 s", twins=(little,))
    yield Animal("junk before the first frame.mp3", bytes(700) + b"\xff\xfbjunk\xff" + bare, twins=(bare,))
    joined, joined_twin = (id3v2(100) + first + id3v2(20_000) + song for first in (song, with_count(song, 9)))
    yield Animal("two files joined.mp3", joined, length_s=2 * LENGTH_S, is_centred=False, twins=(joined_twin,))
    yield Animal(
        "cut in a frame.mp3", id3v2(2048) + bare[: len(bare) // 2 + 37], length_s=LENGTH_S / 2, is_centred=False
    )
    yield Animal("mpeg 2.5, 8 khz, no xing.mp3", without_info(encode_mp3(8_000, level=0.5)))
    yield Animal("wav named.mp3", encode(make_piece(16_000), 16_000, "WAV"))


def iter_waves() -> Iterator[Animal]:
    piece, wide = make_piece(22_050), make_piece(48_000, 8)
    pcm = encode(piece, 22_050, "WAV", "PCM_16")
    at = pcm.index(b"data") + 4
    for subtype in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM", "MS_ADPCM"):
        yield Animal(f"{subtype}.wav", encode(piece, 22_050, "WAV", subtype))
    yield Animal("extensible.wav", encode(piece, 22_050, "WAVEX", "PCM_24"))
    yield Animal("8 channels.wav", encode(wide, 48_000, "WAVEX", "PCM_16"))
    yield Animal("rf64.wav", encode(piece, 22_050, "RF64", "PCM_16"))
    for name, size in (("0", 0), ("all bits", 0xFFFFFFFF), ("twice", 2 * 2 * len(piece))):
        note = "short: 6.0 s decoded, 12.0 s in its header" if name == "twice" else None
        yield Animal(
            f"data size {name}.wav", pcm[:at] + struct.pack("<I", size) + pcm[at + 4 :], note=note, twins=(pcm,)
        )
    short = "short: 3.0 s decoded, 6.0 s in its header"
    yield Animal("cut.wav", pcm[: len(pcm) // 2], note=short, length_s=LENGTH_S / 2, is_centred=False)
    speech = make_piece(8_000)
    gsm = encode(speech, 8_000, "WAV", "GSM610")
    yield Animal("gsm 6.10.wav", gsm, twins=(in_wav(gsm),))
    yield Animal("no header.gsm", encode(speech, 8_000, "RAW", "GSM610"), twins=(in_wav(gsm),))
    for rate_hz in (1, 2, 3, 999, 768_001, 2_000_000_000):
        yield Animal(
            f"{rate_hz} hz.wav",
            pcm[:24] + struct.pack("<I", rate_hz) + pcm[28:],
            refused=f"sample rate {rate_hz} Hz; expected 1000 to",
        )
    for name, value in (("1e30", 1e30), ("nan", np.nan), ("inf", -np.inf)):
        broken = piece.copy()
        broken[70_000] = value
        yield Animal(
            f"one sample of {name}.wav", encode(broken, 22_050, "WAV", "FLOAT"), refused="sample 70000, at 3.175 s"
        )
    yield Animal("no samples.wav", encode(piece[:0], 22_050, "WAV"), refused="no samples")


def iter_others() -> Iterator[Animal]:
    piece, stereo = make_piece(44_100), make_piece(44_100, 2)
    flac = encode(piece, 44_100, "FLAC", "PCM_16")
    # STREAMINFO begins at byte 8: the number of samples is in the last 36 bits of bytes 18 to 26, then the MD5
    yield Animal("no length.flac", flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4 + 16) + flac[42:], twins=(flac,))
    cut, cut_twin = flac[: len(flac) // 2], encode(piece[: 32 * 4096], 44_100, "FLAC", "PCM_16")  # whole blocks of 4096
    yield Animal("cut.flac", cut, None, "damaged after 3.0 s", LENGTH_S / 2, is_centred=False, twins=(cut_twin,))
    ogg = encode(piece, 44_100, "OGG", "VORBIS")
    other = encode(piece[::-1], 44_100, "OGG", "VORBIS")
    yield Animal("one.ogg", ogg)
    yield Animal("two links.ogg", ogg + other, length_s=2 * LENGTH_S, is_centred=False, twins=(ogg, other))
    yield Animal(
        "damaged page.ogg", damage(ogg, 0.5, 200), note="decoded, 6.0 s in its header", length_s=5.55, is_centred=False
    )
    yield Animal("cut.ogg", ogg[: len(ogg) // 2], length_s=2.78, is_centred=False)
    yield Animal("a.opus", encode(make_piece(48_000, 2), 48_000, "OGG", "OPUS"))
    yield Animal("a.aiff", encode(stereo, 44_100, "AIFF", "PCM_24"))
    au = encode(stereo, 44_100, "AU", "PCM_16")
    yield Animal("a.au", au)
    yield Animal("no length.au", au[:8] + b"\xff" * 4 + au[12:])
    yield Animal("a.caf", encode(stereo, 44_100, "CAF", "PCM_16"))
    yield Animal("a.w64", encode(stereo, 44_100, "W64", "PCM_16"))
    yield Animal("a.xi", xi := encode(piece, 44_100, "XI", "DPCM_16"), twins=(in_wav(xi),))
    yield Animal("samples.raw", stereo.tobytes(), refused="raw samples have no header")
    yield Animal(
        "aac.m4a",
        b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0" + bytes(3000),
        refused=AAC,
    )
    yield Animal("text.mp3", b"these are words\n" * 200, refused="not audio, or damaged")
    yield Animal("nothing.mp3", b"", refused="empty file")


def damage(data: bytes, where: float, size: int) -> bytes:
    """Return `data` with `size` other bytes at a place from 0 to 1."""
    at = round(where * len(data))
    return data[:at] + np.random.default_rng(1).bytes(size) + data[at + size :]


def build_zoo() -> list[Animal]:
    return [*iter_mp3s(), *iter_waves(), *iter_others()]
