"""Make the files of this folder anew, with lame and ffmpeg: `python tests/data/recorded/make.py` from the clone.

The sound is synthesised here: soft noise, then a chirp whose channels differ. What a player plays is measured with ffmpeg's own
decoders and kept in played.json: how long it is, and its middle. Made with LAME 3.100 and ffmpeg 5.1.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).parent
RATE_HZ = 44_100
MIDDLE = 200  # samples
COMMANDS = {
    "lame-cbr-no-tag.mp3": "lame --quiet -t -b 64 piece.wav OUT",
    "lame-cbr-id3v2.mp3": "lame --quiet -t -b 32 --resample 16 -m m --tt Chirp --id3v2-only --pad-id3v2-size 5000 piece.wav OUT",
    "lame-vbr.mp3": "lame --quiet -V 7 piece.wav OUT",
    "lame-vbr-no-tag.mp3": "lame --quiet -t -V 7 piece.wav OUT",
    "lame-abr-no-tag.mp3": "lame --quiet -t --abr 64 piece.wav OUT",
    "lame-mpeg-2.5.mp3": "lame --quiet -t -b 16 --resample 8 -m m piece.wav OUT",
    "ffmpeg-no-xing.mp3": "ffmpeg -v error -i piece.wav -write_xing 0 -b:a 64k OUT",
    "ffmpeg-through-a-pipe.wav": "ffmpeg -v error -ss 1 -t 0.8 -i piece.wav -ar 16000 -ac 1 -f wav -",
    "ffmpeg-through-a-pipe.flac": "ffmpeg -v error -ss 1 -t 0.8 -i piece.wav -ar 16000 -f flac -",
    "ffmpeg-adpcm.wav": "ffmpeg -v error -i piece.wav -ar 16000 -ac 1 -c:a adpcm_ms OUT",
    "ffmpeg.opus": "ffmpeg -v error -i piece.wav -b:a 32k OUT",
    "ffmpeg.ogg": "ffmpeg -v error -i piece.wav -c:a libvorbis -q:a 0 OUT",
    "ffmpeg.aiff": "ffmpeg -v error -ss 1 -t 0.5 -i piece.wav -ar 12000 OUT",
    "ffmpeg.m4a": "ffmpeg -v error -i piece.wav -b:a 32k OUT",
}


def make_piece() -> np.ndarray:
    """Return (samples, 2): a second of noise that costs an encoder few bits, then two seconds of a chirp and its lower octave."""
    noise = np.random.default_rng(7).normal(0, 0.001, (RATE_HZ, 2))
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    chirp = [0.4 * np.sin(2 * np.pi * (first_hz * time_s + 0.25 * first_hz * time_s**2)) for first_hz in (400, 200)]
    return np.concatenate([noise, np.stack(chirp, axis=1)])


def main() -> None:
    played = {}
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/piece.wav", make_piece(), RATE_HZ)
        for name, command in COMMANDS.items():
            words = [str(HERE / name) if word == "OUT" else word for word in command.split()]
            (HERE / name).unlink(missing_ok=True)
            printed = subprocess.run(words, cwd=folder, check=True, capture_output=True).stdout
            if command.endswith(" -"):
                (HERE / name).write_bytes(printed)
            decode = ["ffmpeg", "-v", "error", "-i", str(HERE / name), "-c:a", "pcm_f32le", f"{folder}/{name}.wav"]
            subprocess.run(decode, check=True, capture_output=True)
            wave, rate_hz = soundfile.read(f"{folder}/{name}.wav", dtype="float32", always_2d=True)
            start = (len(wave) - MIDDLE) // 2
            middle = [round(float(value), 6) for value in wave[start : start + MIDDLE].mean(axis=1)]
            played[name] = {"command": command, "rate_hz": rate_hz, "num_samples": len(wave), "middle": middle}
    lines = (f'  "{name}": {json.dumps(found)}' for name, found in played.items())
    (HERE / "played.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
