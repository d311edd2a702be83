"""The audio files that a user means by names of files and folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# of the formats that libsndfile reads and that say what they are; .mp3 and .opus since its versions 1.1 and 1.0.29
READ = "wav wave flac ogg oga opus mp3 mp2 mp1 aiff aif aifc au snd caf w64 rf64 voc sph nist iff 8svx avr paf pvf sds sf wve"
NOT_READ = "m4a mp4 aac wma ape wv mpc ac3 amr alac dsf dff ra tta webm"
READABLE, UNREADABLE = (frozenset(f".{name}" for name in names.split()) for names in (READ, NOT_READ))
LINKED = "links to folders"
MOST_KINDS = 4  # of other files, in a line


@dataclass(frozen=True)
class AudioFiles:
    """Files, and what lies in folders, at any depth; in the order of the names given, inside a folder by name.

    Folders are walked twice, to count and to tag, so that memory does not grow with the number of files.
    """

    given: tuple[Path, ...]
    num_files: int
    num_in_folders: int
    left_out: Counter[str]  # files of folders by suffix, links to folders
    unread: tuple[tuple[Path, str], ...]  # folders that could not be read, and why
    empty: tuple[Path, ...]  # folders without an audio file

    @classmethod
    def count(cls, given: Sequence[Path]) -> AudioFiles:
        """Look what there is."""
        left_out: Counter[str] = Counter()
        unread: list[tuple[Path, str]] = []
        empty: list[Path] = []
        num_files, num_in_folders = 0, 0
        for path in given:
            if not path.is_dir():
                num_files += 1
                continue
            num_unread, found = len(unread), sum(1 for _ in _iter_folder(path, left_out, unread))
            num_in_folders += found
            if not found and len(unread) == num_unread:
                empty.append(path)
        return cls(tuple(given), num_files + num_in_folders, num_in_folders, left_out, tuple(unread), tuple(empty))

    @property
    def folders(self) -> list[Path]:
        """The folders among the given names."""
        return [path for path in self.given if path.is_dir()]

    def __iter__(self) -> Iterator[Path]:
        for path in self.given:
            if path.is_dir():
                yield from _iter_folder(path, Counter(), [])
            else:
                yield path

    def describe(self) -> str:
        """Say what the folders hold: "200 audio files; 14 others left out (12 .jpg, 2 .txt)"."""
        text = f"{self.num_in_folders} audio file{'s'[: self.num_in_folders != 1]}"
        if num_others := self.left_out.total():
            kinds = [f"{count} {kind}" for kind, count in self.left_out.most_common(MOST_KINDS)]
            more = ", …" if len(self.left_out) > MOST_KINDS else ""
            text += f"; {num_others} other{'s'[: num_others != 1]} left out ({', '.join(kinds)}{more})"
        if unreadable := sorted(UNREADABLE & set(self.left_out)):
            count = sum(self.left_out[kind] for kind in unreadable)
            text += f"; libsndfile does not read {', '.join(unreadable)} ({count}): convert them, for example by ffmpeg"
        return text


def _iter_folder(folder: Path, left_out: Counter[str], unread: list[tuple[Path, str]]) -> Iterator[Path]:
    """Yield the audio files under `folder`; links to folders are not followed, since they may lead back."""

    def note(error: OSError) -> None:
        unread.append((Path(os.fsdecode(error.filename)), f"cannot be read: {error.strerror}"))

    for place, names, files in os.walk(folder, onerror=note):
        names.sort()
        left_out.update(
            {LINKED: num_links} if (num_links := sum(Path(place, name).is_symlink() for name in names)) else {}
        )
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in READABLE and not name.startswith("."):  # macOS leaves ._song.mp3 beside song.mp3
                yield Path(place, name)
            else:
                left_out[suffix if suffix.isprintable() and 1 < len(suffix) <= 10 else "of other kinds"] += 1
