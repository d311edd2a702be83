"""A small set of annotations in every format that the product reads, as its authors write it."""

from __future__ import annotations

import io
import itertools
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def lines(header: str, row: Callable[[int], str], num: int = 12, first: int = 0) -> bytes:
    """Return a text: the header, and `num` rows."""
    return (header + "".join(row(i) for i in range(first, first + num))).encode()


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """Return an array as a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _msd_id(i: int) -> str:
    return f"TR{'ABCDE'[i % 5]}AAAW128F{i:05d}8"[:18]


def _jamendo(num: int = 12, first: int = 0) -> bytes:
    return lines(
        "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n",
        lambda i: (
            f"track_{i:07d}\tartist_{i // 4:06d}\talbum_{i // 2:06d}\t{i:02d}/{i}.mp3\t{100 + i}.5"
            f"\tgenre---g{i % 3}\tmood/theme---calm\n"
        ),
        num,
        first,
    )


def _notes(first: int, num: int) -> bytes:
    return _json({
        f"bass_{i}": {"note_str": f"bass_{i}", "instrument_str": f"bass_{i // 2}", "instrument_family_str": "bass",
                      "instrument_source_str": "synthetic", "qualities": [int(i % 3 == q) for q in range(10)]}
        for i in range(first, first + num)
    })  # fmt: skip


def formats() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (what is named as the annotations, files) of every format."""
    magna = "clip_id\tno voice\trock\tsoft\tmp3_path\n"
    yield (
        "a.csv",
        {
            "a.csv": lines(
                magna,
                lambda i: f"{i + 2}\t{i % 2}\t{i % 3 // 2}\t1\t{'0123cdef'[i % 8]}/artist-album-{i}-title-0-29.mp3\n",
            )
        },
    )
    for delimiter, separator in itertools.product(",\t;", ";|,"):
        by_comma = lines(
            "file,tags,fold,artist,split\n",
            lambda i: f'f/{i}.wav,"rock/genre {i % 3}",{i % 4},artist {i % 5},{("train", "val", "test")[i % 3]}\n',
        )
        content = by_comma.replace(b",", delimiter.encode()).replace(b"rock/", b"rock" + separator.encode())
        yield "t.csv", {"t.csv": content}
    one_hot = "id,path,duration_s,rock,pop,jazz\n"
    yield "o.csv", {"o.csv": lines(one_hot, lambda i: f"c{i},a/{i}.flac,{i}.5,{('1', '0', '-1', '?')[i % 4]},1.0,\n")}
    parts = {
        f"splits/split-0/autotagging_{part}.tsv": _jamendo(4, 4 * i)
        for i, part in enumerate(("train", "validation", "test"))
    }
    yield (
        "autotagging.tsv",
        {"autotagging.tsv": _jamendo(), **{k.replace("autotagging_", "autotagging-"): v for k, v in parts.items()}},
    )
    yield ".", {f"{part}_filtered.txt": lines("", lambda i: f"blues/blues.{i:05d}.wav\njazz/jazz.{i:05d}.wav\n", 4, 4 * j)
                for j, part in enumerate(("train", "valid", "test"))}  # fmt: skip
    ids = [_msd_id(i) for i in range(12)]
    vectors = {clip: np.array([[i % 2], [1], [0]], np.float64) for i, clip in enumerate(ids)}
    yield ".", {"filtered_list_train.cP": pickle.dumps(ids[:8], 0), "filtered_list_test.cP": pickle.dumps(ids[8:], 0),
                "msd_id_to_tag_vector.cP": pickle.dumps(vectors, 2), "50tagList.txt": b"rock\npop\n00s\n",
                "MSD_id_to_7D_id.pkl": pickle.dumps({clip: str(i) for i, clip in enumerate(ids)}, 0),
                "7D_id_to_path.pkl": pickle.dumps({str(i): f"8/{i}.clip.mp3" for i in range(12)}, 2)}  # fmt: skip
    yield (
        ".",
        {"50tagList.txt": b"rock\npop\n"}
        | {
            f"{part}_{name}": content
            for j, part in enumerate(("train", "valid", "test"))
            for name, content in (
                ("x_msd_id.txt", "\n".join(ids[4 * j : 4 * j + 4]).encode()),
                ("y.npy", npy(np.eye(4, 2) > 0)),
            )
        },
    )
    split = {"train_track": ids[:6], "valid_track": ids[6:8], "test_track": ids[8:10], "extra_track": ids[10:]}
    yield (
        "annotation.json",
        {
            "annotation.json": _json(
                {clip: {"tag": ["rock", f"tag {i % 3}"], "track_id": clip} for i, clip in enumerate(ids)}
            ),
            "ecals_track_split.json": _json(split),
        },
    )
    tracks = ",album,artist,artist,set,set,track,track\n,id,bio,id,split,subset,duration,genres_all\ntrack_id,,,,,,,\n"
    yield (
        "tracks.csv",
        {
            "tracks.csv": lines(
                tracks,
                lambda i: (
                    f'{2 + 5 * i},{i // 2},"born,\n""there""",{i // 4},'
                    f'{("training", "validation", "test")[i % 3]},small,168,"[21, 10]"\n'
                ),
            ),
            "genres.csv": b"genre_id,#tracks,parent,title,top_level\n10,4,0,Pop,10\n21,9,0,Hip-Hop,21\n",
        },
    )
    yield ".", {
        "openmic-2018-aggregated-labels.csv": lines(
            "sample_key,instrument,relevance,num_responses\n",
            lambda i: f"{i // 2:06d}_{i // 2},{('banjo', 'cello')[i % 2]},0.{i:04d},3\n",
            24,
        ),
        "partitions/split01_train.csv": lines("", lambda i: f"{i:06d}_{i}\n", 8),
        "partitions/split01_test.csv": lines("", lambda i: f"{i:06d}_{i}\n", 4, 8),
    }  # fmt: skip
    yield ".", {f"nsynth-{part}/examples.json": _notes(6 * i, 6) for i, part in enumerate(("train", "valid", "test"))}
    yield (
        ".",
        {
            "vocabulary.csv": b"0,Bell,/m/0\n1,Bird,/m/1\n2,Animal,/m/2\n",
            "dev.csv": lines(
                "fname,labels,mids,split\n", lambda i: f'{i},"Bird,Animal","/m/1,/m/2",{("train", "val")[i % 2]}\n'
            ),
            "eval.csv": lines("fname,labels,mids\n", lambda i: f'{i},"Bell","/m/0"\n', 6, 100),
        },
    )
    yield (
        "esc50.csv",
        {
            "esc50.csv": lines(
                "filename,fold,target,category,esc10,src_file,take\n",
                lambda i: f"{1 + i % 5}-{i}-A-{i % 3}.wav,{1 + i % 5},{i % 3},class {i % 3},True,{i // 2},A\n",
            )
        },
    )
    segments = "# Segments csv created\n# num_ytids=12\n# YTID, start_seconds, end_seconds, positive_labels\n"
    yield ".", {
        "balanced_train_segments.csv": lines(segments, lambda i: f'-{i:02d}PJHxphW, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n'),
        "eval_segments.csv": lines(segments, lambda i: f'_{i:02d}PJHxphW, 0.000, 10.000, "/m/09x0r"\n'),
        "class_labels_indices.csv": b'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/t/dd00088,"Gush, ""jet"""\n',
    }  # fmt: skip
