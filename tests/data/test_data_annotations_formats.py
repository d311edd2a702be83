"""The formats of the open sets, on excerpts written by their own rules; counts come from csv and json alone."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations import Annotations, load_annotations
from fcn4dist.data.leaks import find_leaks
from fcn4dist.data.splits import split_clips
from fcn4dist.errors import DataError

JAMENDO = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\r\n"


def read(place: Path, **keys: Any) -> Annotations:
    return load_annotations(DataConfig(annotations=place, **keys))


def counts_of(annotations: Annotations, split: str = "official") -> dict[str, int]:
    return {part: len(rows) for part, rows in split_clips(annotations, split).parts.items()}


def tags_of(annotations: Annotations, row: int) -> set[str]:
    return {tag for tag, label in zip(annotations.tags, annotations.labels[row].tolist(), strict=True) if label == 1}


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


# MTG-Jamendo


@pytest.fixture
def jamendo(tmp_path: Path) -> Path:
    """120 tracks, CRLF, one to four tags behind the fifth tab; two of the five splits, the second the other way round."""
    rows = []
    for i in range(120):
        tags = [f"genre---g{i % 7}", "instrument---guitar", "mood/theme---calm", f"genre---h{i % 3}"][: 1 + i % 4]
        fields = [f"track_{i + 214:07d}", f"artist_{i // 6:06d}", f"album_{i // 3:06d}", f"{i % 100:02d}/{i + 214}.mp3"]
        rows.append("\t".join([*fields, f"{100 + i}.5", *tags]) + "\r\n")
    table = write(tmp_path / "data" / "autotagging_toy.tsv", JAMENDO + "".join(rows))
    for split, cuts in (("0", (0, 72, 96, 120)), ("4", (0, 60, 90, 120))):
        for part, (first, last) in zip(("train", "validation", "test"), itertools.pairwise(cuts), strict=True):
            name = f"splits/split-{split}/autotagging_toy-{part}.tsv"
            write(table.parent / name, JAMENDO + "".join(rows[first:last]))
    return table


def test_jamendo_has_ragged_rows_and_five_splits(jamendo: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = read(jamendo, split="official")
    assert "format mtg-jamendo (recognised" in caplog.text
    with jamendo.open(newline="") as text:
        rows = [line.rstrip("\r\n").split("\t") for line in text][1:]
    assert found.source_ids == [row[0] for row in rows]
    assert found.paths == [row[3] for row in rows]
    assert found.tags == sorted({tag for row in rows for tag in row[5:]})
    assert [tags_of(found, i) for i in range(120)] == [set(row[5:]) for row in rows]
    assert found.groups == {"track": found.source_ids, "album": [r[2] for r in rows], "artist": [r[1] for r in rows]}
    assert found.durations_s is not None
    assert found.durations_s.tolist() == [float(row[4]) for row in rows]
    assert counts_of(found) == {"train": 72, "val": 24, "test": 24}
    assert counts_of(read(jamendo, split="official:4"), "official:4") == {"train": 60, "val": 30, "test": 30}
    assert find_leaks(split_clips(found, "official").parts, found.groups).levels["artist"].num_shared == 0
    assert read(jamendo, path_template="{path}.low.mp3").paths[0] == "00/214.low.mp3"


def test_jamendos_missing_and_strange_splits_are_named(jamendo: Path) -> None:
    with pytest.raises(DataError, match=r"split-2/autotagging_toy-train\.tsv: missing; data\.split official takes"):
        read(jamendo, split="official:2")
    with pytest.raises(DataError, match="official:5; MTG-Jamendo has official:0 to official:4"):
        read(jamendo, split="official:5")
    assert read(jamendo, split="random-by-artist").parts is None  # no split file is looked at
    with pytest.raises(DataError, match=r"toy\.tsv:2: path '00/214\.mp3' is not in one of .* Use official, random"):
        split_clips(read(jamendo), "folder-12-1-3")
    lines = jamendo.read_text().splitlines(keepends=True)
    jamendo.write_text("".join(lines[:-1]))  # 1 of 120 is gone
    assert counts_of(read(jamendo, split="official"))["test"] == 23
    jamendo.write_text("".join(lines[:-2]))
    with pytest.raises(
        DataError, match=r"split-0: 2 of the 120 clips that it names are not in .*toy\.tsv.*'track_0000332'"
    ):
        read(jamendo, split="official")
    jamendo.write_text("".join([*lines, "track_1\tartist_1\talbum_1\t00/1.mp3\t12\r\n"]))
    with pytest.raises(DataError, match=r"toy\.tsv:122: 5 fields; expected 6 or more"):
        read(jamendo)
    link = write(jamendo.parent / "autotagging.tsv", "autotagging_toy.tsv")
    with pytest.raises(DataError, match=r"holds only the name of another file.* name autotagging_toy\.tsv"):
        read(link)


# GTZAN


def test_gtzan_is_three_lists_whose_folders_are_the_tags(tmp_path: Path) -> None:
    for name, numbers in (("train", range(10)), ("valid", range(10, 14)), ("test", range(14, 20))):
        lines = [f"{genre}/{genre}.{i:05d}.wav\n" for genre in ("blues", "jazz", "hiphop") for i in numbers]
        write(tmp_path / f"{name}_filtered.txt", "".join(lines))
    for place in (tmp_path, tmp_path / "valid_filtered.txt"):
        found = read(place)
        assert (found.format, found.tags) == ("gtzan", ["blues", "hiphop", "jazz"])
        assert counts_of(found) == {"train": 30, "val": 12, "test": 18}
        assert found.labels.sum(axis=0).tolist() == [20, 20, 20]
        assert all(tags_of(found, row) == {path.split("/")[0]} for row, path in enumerate(found.paths))
    with pytest.raises(DataError, match=r"it names no track, album or artist\. Use official, random, folds"):
        split_clips(found, "random-by-artist")
    (tmp_path / "test_filtered.txt").unlink()
    with pytest.raises(DataError, match=r"test_filtered\.txt: missing; the fault-filtered split"):
        read(tmp_path)


# MSD


def pickle_as_python_2(value: Any) -> bytes:
    """Return protocol 0 as cPickle of Python 2 wrote it: its texts are bytes, its arrays are rebuilt from such a text."""
    counter = iter(range(1, 10**9))

    def put() -> bytes:
        return b"p%d\n" % next(counter)

    def text(raw: bytes) -> bytes:
        return b"S" + repr(raw)[1:].encode("ascii") + b"\n" + put()

    def array(vector: np.ndarray[Any, Any]) -> bytes:
        shape = b"".join(b"I%d\n" % n for n in vector.shape)
        made = b"cnumpy.core.multiarray\n_reconstruct\n" + put() + b"(cnumpy\nndarray\n" + put() + b"(I0\nt" + put()
        made += text(b"b") + b"t" + put() + b"R" + put()
        kind = (
            b"cnumpy\ndtype\n"
            + put()
            + b"("
            + text(vector.dtype.str[1:].encode())
            + b"I0\nI1\nt"
            + put()
            + b"R"
            + put()
        )
        kind += b"(I3\n" + text(b"<") + b"NNNI-1\nI-1\nI0\nt" + put() + b"b"
        return made + b"(I1\n(" + shape + b"t" + put() + kind + b"I00\n" + text(vector.tobytes()) + b"t" + put() + b"b"

    def items(values: Iterable[str]) -> bytes:
        return b"".join(text(name.encode()) + b"a" for name in values)

    if isinstance(value, list):
        return b"(l" + put() + items(value) + b"."
    return b"(d" + put() + b"".join(text(k.encode()) + array(v) + b"s" for k, v in value.items()) + b"."


def msd_ids(num: int) -> list[str]:
    return [f"TR{'ABCDE'[i % 5]}AAAW128F{i:05d}8"[:18] for i in range(num)]


@pytest.fixture
def msd(tmp_path: Path) -> tuple[Path, list[str], np.ndarray[Any, Any]]:
    ids = msd_ids(12)
    vectors = (np.random.default_rng(0).random((12, 3, 1)) < 0.5).astype(np.float64)
    for name, value in (
        ("filtered_list_train.cP", ids[:9]),
        ("filtered_list_test.cP", ids[9:]),
        ("msd_id_to_tag_vector.cP", {**dict(zip(ids, vectors, strict=True)), "TRZZZZZ128F0000001": vectors[0]}),
    ):
        (tmp_path / name).write_bytes(pickle_as_python_2(value))
    write(tmp_path / "50tagList.txt", "rock\nfemale vocalists\n00s\n")
    return tmp_path, ids, vectors[:, :, 0]


def test_msds_pickles_of_python_2_are_read(
    msd: tuple[Path, list[str], np.ndarray[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ids, vectors = msd
    monkeypatch.setattr("fcn4dist.data.annotations.msd.NUM_TRAIN", 7)
    for place in (folder, folder / "filtered_list_test.cP"):
        found = read(place, path_template="{id}.mp3")
        assert (found.format, found.source_ids, found.tags) == ("msd", ids, ["rock", "female vocalists", "00s"])
        np.testing.assert_array_equal(found.labels, vectors)
        assert counts_of(found) == {"train": 7, "val": 2, "test": 3}
        assert found.paths[0] == f"{ids[0]}.mp3"
    with pytest.raises(DataError, match=r"does not say where audio is; set data\.path_template .* or data\.path_map"):
        read(folder)
    numbers = {clip: str(i) for i, clip in enumerate(ids)}
    (folder / "MSD_id_to_7D_id.pkl").write_bytes(pickle.dumps(numbers, protocol=0))
    (folder / "7D_id_to_path.pkl").write_bytes(
        pickle.dumps({str(i): f"8/9/{i}.clip.mp3" for i in range(12)}, protocol=2)
    )
    assert read(folder).paths == [f"8/9/{i}.clip.mp3" for i in range(12)]


class Shell:
    """What a hostile pickle does: calls a function as it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-here",)


def test_a_pickle_that_would_run_code_is_refused(
    msd: tuple[Path, list[str], np.ndarray[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = msd[0]
    monkeypatch.chdir(folder)
    file = folder / "filtered_list_train.cP"
    for bad in (
        pickle.dumps([Shell()], protocol=0),
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cnumpy.core.multiarray\narray\n.",
    ):
        file.write_bytes(bad)
        with pytest.raises(
            DataError, match=r"filtered_list_train\.cP: names .*: a pickle that would run code \(refused\)"
        ):
            read(folder, path_template="{id}.mp3")
    assert not (folder / "was-here").exists()
    for damaged in (b"", b"(lp1\nS'TRAA", b"\x80\x04garbage", b"I" + b"9" * 5000 + b"\n."):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"filtered_list_train\.cP: damaged, or no pickle"):
            read(folder, path_template="{id}.mp3")


def test_msd_as_texts_and_arrays(tmp_path: Path) -> None:
    ids = msd_ids(10)
    labels = np.random.default_rng(1).random((10, 2)) < 0.5
    for name, part in (("train", slice(0, 6)), ("valid", slice(6, 8)), ("test", slice(8, 10))):
        write(tmp_path / f"{name}_x_msd_id.txt", "\n".join(ids[part]) + "\n")
        np.save(tmp_path / f"{name}_y.npy", labels[part])
    write(tmp_path / "map.csv", "".join(f"{clip},7/{clip}.mp3\n" for clip in ids))
    with pytest.raises(DataError, match=r"50tagList\.txt: missing; expected the tags of the vectors in their order"):
        read(tmp_path)
    write(tmp_path / "50tagList.txt", "rock\npop\n")
    for place in (tmp_path, tmp_path / "train_x_msd_id.txt"):
        found = read(place, path_map=tmp_path / "map.csv")
        assert (found.format, found.source_ids, found.paths[3]) == ("msd", ids, f"7/{ids[3]}.mp3")
        np.testing.assert_array_equal(found.labels, labels)
        assert counts_of(found) == {"train": 6, "val": 2, "test": 2}


def test_msd_as_ecals_has_lists_of_tags(tmp_path: Path) -> None:
    ids = msd_ids(8)
    clips = {clip: {"tag": ["rock", f"tag {i % 3}"], "track_id": clip} for i, clip in enumerate(ids)}
    split = {"train_track": ids[:3], "valid_track": ids[3:5], "test_track": ids[5:7], "extra_track": ids[7:]}
    write(tmp_path / "annotation.json", json.dumps(clips))
    write(tmp_path / "ecals_track_split.json", json.dumps(split))
    found = read(tmp_path / "annotation.json", path_template="{id}.mp3")
    assert (found.format, found.tags) == ("msd", ["rock", "tag 0", "tag 1", "tag 2"])
    assert counts_of(found) == {"train": 4, "val": 2, "test": 2}
    assert all(tags_of(found, row) == set(clips[clip]["tag"]) for row, clip in enumerate(found.source_ids))


# FMA


@pytest.fixture
def fma(tmp_path: Path) -> Path:
    """Two header rows, a row with track_id alone, quoted newlines, Python lists; every third track lacks a subset."""
    head = [("", ""), ("album", "id"), ("album", "title"), ("artist", "bio"), ("artist", "id"), ("set", "split")]
    head += [("set", "subset"), ("track", "duration"), ("track", "genre_top"), ("track", "genres_all")]
    with (tmp_path / "tracks.csv").open("w", newline="", encoding="utf-8") as text:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerows([[a for a, _ in head], [b for _, b in head], ["track_id", *[""] * (len(head) - 1)]])
        for i in range(40):
            subset = ("small", "medium", "large", "")[i % 4]
            part = ("training", "training", "validation", "test")[i // 10]
            genres = str([21, 10][: i % 3])
            bio = 'born in "Köln",\nplays, sings'
            rows.writerow([2 + 5 * i, i // 4, "A, B", bio, i // 8, part, subset, 168, "Hip-Hop", genres])
    write(tmp_path / "genres.csv", "genre_id,#tracks,parent,title,top_level\n10,4,0,Pop,10\n21,9,0,Hip-Hop,21\n")
    return tmp_path / "tracks.csv"


@pytest.mark.parametrize(("folder", "num"), [("fma_small", 10), ("fma_medium", 20), ("fma_large", 30), ("audio", 40)])
def test_fma_has_three_header_rows_and_cumulative_subsets(fma: Path, tmp_path: Path, folder: str, num: int) -> None:
    for place in (fma, fma.parent):
        found = read(place, audio_dir=tmp_path / folder)
        assert (found.format, found.num_clips, found.tags) == ("fma", num, ["Hip-Hop", "Pop"])
    with fma.open(newline="", encoding="utf-8") as text:
        rows = [
            row
            for row in list(csv.reader(text))[3:]
            if num == 40 or row[6] in ("small", "medium", "large")[: num // 10]
        ]
    assert found.clip_ids.tolist() == [int(row[0]) for row in rows]
    assert found.paths == [f"{int(row[0]) // 1000:03d}/{int(row[0]):06d}.mp3" for row in rows]
    titles = {21: "Hip-Hop", 10: "Pop"}
    assert [tags_of(found, i) for i in range(num)] == [{titles[g] for g in json.loads(row[9])} for row in rows]
    assert counts_of(found)["val"] == sum(row[5] == "validation" for row in rows)
    assert found.groups["artist"] == [row[4] for row in rows]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[21]", "__import__('os').mkdir('x')", r"genres_all .*; expected a list of numbers"),
        ("[21]", "[" + "9" * 5000 + "]", r"genres_all '\[9+…9+\]'; expected a list"),
        ("[21]", "[" * 100_000, r"genres_all '\[+…\[+'; expected a list"),
        ("[21]", "[77]", r"genre 77 is not in genres\.csv"),
        ("genres_all", "genres", r"tracks\.csv:1: not FMA's tracks\.csv .*; track\.genres_all is missing"),
        ("track_id", "1", r"tracks\.csv:1: not FMA's .*; a third row that begins with track_id is missing"),
    ],
)
def test_fmas_lists_are_data(fma: Path, old: str, new: str, message: str) -> None:
    fma.write_text(fma.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        read(fma)
    assert not (fma.parent / "x").exists()


# OpenMIC-2018


def test_openmic_knows_only_what_has_a_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = []
    for i in range(30):
        key = f"{i // 2 + 46:06d}_{3840 * (i % 2) + 7}"
        for place, name in enumerate(("accordion", "banjo", "cello")):
            if (i + place) % 3:
                rows.append((key, name, f"{(i * 7 + place * 3) % 11 / 10:.6f}", "3"))
    table = tmp_path / "openmic-2018-aggregated-labels.csv"
    lines = ["sample_key,instrument,relevance,num_responses", *(",".join(row) for row in rows)]
    write(table, "\n".join(lines) + "\n")
    keys = list(dict.fromkeys(row[0] for row in rows))
    with pytest.raises(DataError, match=r"partitions/split01_train\.csv: missing; data\.split official takes"):
        read(table, split="official")
    write(tmp_path / "partitions" / "split01_train.csv", "".join(f"{key}\n" for key in keys[:20]))
    write(tmp_path / "partitions" / "split01_test.csv", "".join(f"{key}\n" for key in keys[20:]))
    for place in (tmp_path, table):  # type: ignore[assignment]
        found = read(place)  # type: ignore[arg-type]
        assert (found.format, found.tags, found.source_ids) == ("openmic", ["accordion", "banjo", "cello"], keys)
    expected = {
        (key, name): 1 if float(value) > 0.5 else 0 if float(value) < 0.5 else -1 for key, name, value, _ in rows
    }
    for row, key in enumerate(keys):
        assert found.labels[row].tolist() == [expected.get((key, name), -1) for name in found.tags]
    assert -1 in expected.values()
    assert found.paths[0] == "audio/000/000046_7.ogg"
    assert read(table, audio_dir=tmp_path / "audio").paths[0] == "000/000046_7.ogg"
    assert found.groups["track"][:3] == ["000046", "000046", "000047"]
    with caplog.at_level(logging.WARNING):
        assert counts_of(found) == {"train": 20, "val": 0, "test": 10}
    assert "has no validation part: train and test are given as they are" in caplog.text
    write(table, "\n".join([*lines, f"{keys[0]},banjo,2,3"]) + "\n")
    with pytest.raises(DataError, match=r"labels\.csv:\d+: relevance '2'; expected a number from 0 to 1"):
        read(table)


# NSynth


def test_nsynth_is_a_folder_a_part(tmp_path: Path) -> None:
    notes: dict[str, dict[str, Any]] = {}
    for part, first in (("train", 0), ("valid", 20), ("test", 26)):
        for i in range(first, {0: 20, 20: 26, 26: 30}[first]):
            name = f"bass_synthetic_{i // 4:03d}-{i + 20:03d}-100"
            notes[name] = {
                "note_str": name,
                "instrument_str": f"bass_synthetic_{i // 4:03d}",
                "instrument_family_str": ("bass", "guitar")[i % 2],
                "instrument_source_str": "synthetic",
                "qualities": [int((i + q) % 5 == 0) for q in range(10)],
                "part": part,
            }
        folder = tmp_path / f"nsynth-{part}"
        write(folder / "examples.json", json.dumps({k: n for k, n in notes.items() if n["part"] == part}))
    for place in (tmp_path, tmp_path / "nsynth-valid", tmp_path / "nsynth-train" / "examples.json"):
        found = read(place)
        assert (found.format, found.source_ids) == ("nsynth", list(notes))
    assert counts_of(found) == {"train": 20, "val": 6, "test": 4}
    assert found.paths[20] == f"nsynth-valid/audio/{found.source_ids[20]}.wav"
    bright, dark = found.tags.index("bright"), found.tags.index("dark")
    assert found.labels[:, bright].tolist() == [n["qualities"][0] for n in notes.values()]
    assert found.labels[:, dark].tolist() == [n["qualities"][1] for n in notes.values()]
    assert found.labels[:, found.tags.index("guitar")].sum() == 15
    assert found.groups["artist"] == [n["instrument_str"] for n in notes.values()]
    alone = read(write(tmp_path / "mine" / "examples.json", (tmp_path / "nsynth-test" / "examples.json").read_text()))
    assert (alone.num_clips, alone.parts, alone.paths[0]) == (4, None, f"audio/{found.source_ids[26]}.wav")
    write(tmp_path / "mine" / "examples.json", '{"a": {"qualities": [2]}}')
    with pytest.raises(DataError, match=r"examples\.json: 'a': not a note of NSynth"):
        read(tmp_path / "mine" / "examples.json")


# FSD50K


def test_fsd50k_has_a_vocabulary_without_a_header(tmp_path: Path) -> None:
    truth = tmp_path / "FSD50K.ground_truth"
    vocabulary = ["Accordion", "Bell", "Bird", "Animal"]
    write(truth / "vocabulary.csv", "".join(f"{i},{tag},/m/0{i}\n" for i, tag in enumerate(vocabulary)))
    dev = []
    for i in range(20):
        labels, part = "Bird,Animal" if i % 2 else "Bell", "val" if i % 5 == 0 else "train"
        dev.append(f'{64760 + i},"{labels}","/m/01,/m/02",{part}\n')
    write(truth / "dev.csv", "fname,labels,mids,split\n" + "".join(dev))
    evaluation = [f'{i},"Accordion","/m/00"\n' for i in range(37199, 37206)]
    write(truth / "eval.csv", "fname,labels,mids\n" + "".join(evaluation))
    for place in (tmp_path, truth, truth / "dev.csv", truth / "eval.csv"):
        found = read(place)
        assert (found.format, found.tags) == ("fsd50k", vocabulary)
    assert counts_of(found) == {"train": 16, "val": 4, "test": 7}
    assert found.labels.sum(axis=0).tolist() == [7, 10, 10, 10]
    assert found.clip_ids.tolist() == [*range(64760, 64780), *range(37199, 37206)]
    assert (found.paths[0], found.paths[-1]) == ("FSD50K.dev_audio/64760.wav", "FSD50K.eval_audio/37205.wav")
    write(truth / "dev.csv", 'fname,labels,mids,split\n1,"Bird,Cow","x,y",train\n')
    with pytest.raises(DataError, match=r"dev\.csv:2: label 'Cow' is not in vocabulary\.csv"):
        read(tmp_path)


# ESC-50


def test_esc50_has_folds_and_recordings(tmp_path: Path) -> None:
    rows = []
    for i in range(40):  # two clips a recording, five folds
        fold, source = 1 + i // 2 % 5, 9000 + i // 2
        rows.append((f"{fold}-{source}-{'AB'[i % 2]}-{i % 4}.wav", str(fold), f"class_{i % 4}", str(source)))
    lines = [f"{name},{fold},0,{category},True,{source},A\n" for name, fold, category, source in rows]
    table = write(
        tmp_path / "meta" / "esc50.csv", "filename,fold,target,category,esc10,src_file,take\n" + "".join(lines)
    )
    for place in (tmp_path, tmp_path / "meta", table):
        found = read(place)
        assert (found.format, found.num_clips, found.folds) == ("esc50", 40, [row[1] for row in rows])
    assert found.paths[0] == f"audio/{rows[0][0]}"
    assert read(table, audio_dir=tmp_path / "audio").paths[0] == rows[0][0]
    assert found.groups == {"track": [row[3] for row in rows]}
    assert all(tags_of(found, i) == {row[2]} for i, row in enumerate(rows))
    num = {fold: sum(row[1] == fold for row in rows) for fold in "12345"}
    assert counts_of(found, "folds:5:4") == {"train": num["1"] + num["2"] + num["3"], "val": num["5"], "test": num["4"]}
    assert find_leaks(split_clips(found, "folds:1").parts, found.groups).levels["track"].num_shared == 0
    with pytest.raises(
        DataError, match=r"esc50\.csv \(esc50\) has no split of its own\. Use folds:1 \(fold 1 validates\)"
    ):
        split_clips(found, "official")


# AudioSet


def write_audioset(folder: Path, name: str, ids: list[str]) -> Path:
    lines = ["# Segments csv created Sun Mar  5 10:54:31 2017", f"# num_ytids={len(ids)}, num_segs={len(ids)}"]
    lines.append("# YTID, start_seconds, end_seconds, positive_labels")
    lines += [f'{clip}, 30.000, 40.000, "/m/09x0r{",/t/dd00088" if i % 2 else ""}"' for i, clip in enumerate(ids)]
    return write(folder / name, "\n".join(lines) + "\n")


def test_audioset_has_comments_and_a_space_behind_the_comma(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ids = [f"{'-' if i % 3 else '_'}{i:02d}PJHxphW" for i in range(20)]
    train = write_audioset(tmp_path, "balanced_train_segments.csv", ids[:12])
    write_audioset(tmp_path, "eval_segments.csv", ids[12:])
    classes = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/t/dd00088,"Gush, ""jet"""\n2,/m/0dgw9r,"Human sounds"\n'
    write(tmp_path / "class_labels_indices.csv", classes)
    with pytest.raises(DataError, match=r"does not say where audio is; set data\.path_template \('\{id\}\.wav'"):
        read(train)
    for place in (train, tmp_path):
        found = read(place, path_template="{id}.wav")
        assert (found.format, found.source_ids, found.paths[1]) == ("audioset", ids, f"{ids[1]}.wav")
    assert found.tags == ["Speech", 'Gush, "jet"', "Human sounds"]
    assert found.labels.sum(axis=0).tolist() == [20, 10, 0]
    assert found.durations_s is not None
    assert set(found.durations_s.tolist()) == {10.0}
    with caplog.at_level(logging.WARNING):
        assert counts_of(found) == {"train": 12, "val": 0, "test": 8}
    assert "no validation part" in caplog.text
    plain = "\n".join(train.read_text().splitlines()[3:]).replace(", ", ",")  # a copy that lost its comments and spaces
    write(train, "YTID,start_seconds,end_seconds,positive_labels\n" + plain + "\n")
    assert read(train, path_template="{id}.wav").labels.tolist() == found.labels.tolist()
    write(train, train.read_text().replace(ids[4], "#NAME?"))
    with pytest.raises(
        DataError, match=r"balanced_train_segments\.csv:6: id '#NAME\?': a spreadsheet has written over"
    ):
        read(train, path_template="{id}.wav")


def test_a_folder_without_annotations_names_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a folder without annotations that are known by their name \(train_filtered\.txt"
    ):
        read(tmp_path)
    with pytest.raises(DataError, match="a folder; format table is one file"):
        read(tmp_path, format="table")
