"""The Million Song Dataset with Last.fm tags, in the three forms that go round.

- pickles of Python 2, github.com/jongpillee/music_dataset_split: `filtered_list_{train,test}.cP`,
  `msd_id_to_tag_vector.cP`, `50tagList.txt`;
- text, github.com/keunwoochoi/MSD_split_for_tagging: `{train,valid,test}_x_msd_id.txt`, `{train,valid,test}_y.npy`; its
  tags belong into `50tagList.txt`;
- eCALS, github.com/seungheondoh/msd-subsets: `annotation.json`, `ecals_track_split.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import build_annotations, mark_tags
from fcn4dist.data.annotations.data_pickle import load_pickle
from fcn4dist.data.annotations.rows import load_json, read_lines
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.data.tags import load_tags
from fcn4dist.errors import DataError, quoted

TRAIN, TEST, VECTORS, TAGS = (
    "filtered_list_train.cP",
    "filtered_list_test.cP",
    "msd_id_to_tag_vector.cP",
    "50tagList.txt",
)
TO_7DIGITAL, TO_PATH = "MSD_id_to_7D_id.pkl", "7D_id_to_path.pkl"  # where audio is, among those who have it
NUM_TRAIN = 201_680  # of the training list; the rest, 11,774, validates
TEXT_PARTS: dict[str, Part] = {"train": "train", "valid": "val", "test": "test"}
ECALS_PARTS: dict[str, Part] = {
    "train_track": "train",
    "extra_track": "train",
    "valid_track": "val",
    "test_track": "test",
}


def load(place: Path, data: DataConfig) -> Annotations:
    """Read the form whose files are in the folder; `place` is the folder or one of the files.

    Audio: data.path_map or data.path_template; else 7digital's two pickles where they stand beside. Raises DataError.
    """
    folder = place if place.is_dir() else place.parent
    if (folder / VECTORS).is_file():
        ids, parts, labels = _load_pickles(folder)
        tags = _load_tags(folder)
    elif (folder / "annotation.json").is_file():
        ids, parts, tags, labels = _load_ecals(folder)
    else:
        ids, parts, labels = _load_texts(folder)
        tags = _load_tags(folder)
    if labels.shape != (len(ids), len(tags)):
        raise DataError(
            f"{folder}: labels {labels.shape} for {len(ids)} ids and {len(tags)} tags; expected them to agree"
        )
    paths = None
    if data.path_map is None and data.path_template is None and (folder / TO_PATH).is_file():
        number_of, path_of = load_pickle(folder / TO_7DIGITAL), load_pickle(folder / TO_PATH)
        paths = [str(path_of.get(number_of.get(clip), "")) for clip in ids]
    return build_annotations(folder, "msd", data, ids, paths, tags, labels, parts=parts)


def _load_tags(folder: Path) -> list[str]:
    if not (folder / TAGS).is_file():
        raise DataError(f"{folder / TAGS}: missing; expected the tags of the vectors in their order, one a line")
    return load_tags(folder / TAGS)


def _load_pickles(folder: Path) -> tuple[list[str], list[Part], NDArray[np.int8]]:
    train, test, vectors = (load_pickle(folder / name) for name in (TRAIN, TEST, VECTORS))
    if not (isinstance(train, list) and isinstance(test, list) and isinstance(vectors, dict)):
        raise DataError(f"{folder}: {TRAIN} and {TEST} must hold lists of ids, {VECTORS} a dict of vectors")
    ids = [str(clip) for clip in (*train, *test)]
    if missing := [clip for clip in ids if clip not in vectors]:
        raise DataError(
            f"{folder / VECTORS}: no vector for {quoted(missing[0])} and {len(missing) - 1} more of the lists"
        )
    parts: list[Part] = ["train"] * len(train[:NUM_TRAIN])
    parts += ["val"] * len(train[NUM_TRAIN:])
    parts += ["test"] * len(test)
    return ids, parts, _as_labels(folder / VECTORS, [vectors[clip] for clip in ids])


def _load_texts(folder: Path) -> tuple[list[str], list[Part], NDArray[np.int8]]:
    ids: list[str] = []
    parts: list[Part] = []
    labels = []
    for name, part in TEXT_PARTS.items():
        file, vectors = folder / f"{name}_x_msd_id.txt", folder / f"{name}_y.npy"
        found = [clip for _, clip in read_lines(file)]
        try:
            labels.append(_as_labels(vectors, np.load(vectors, allow_pickle=False)))
        except DataError:
            raise
        except Exception as error:  # NumPy's reading of a damaged header may raise anything
            raise DataError(f"{vectors}: cannot be read: {error}") from None
        if len(labels[-1]) != len(found):
            raise DataError(f"{vectors}: {len(labels[-1])} rows, {file.name} has {len(found)} ids")
        ids += found
        parts += [part] * len(found)
    return ids, parts, np.concatenate(labels)


def _load_ecals(folder: Path) -> tuple[list[str], list[Part], list[str], NDArray[np.int8]]:
    clips, split = load_json(folder / "annotation.json"), load_json(folder / "ecals_track_split.json")
    part_of: dict[str, Part] = {clip: part for key, part in ECALS_PARTS.items() for clip in split.get(key, [])}
    ids = [clip for clip in part_of if clip in clips]
    try:
        tags, labels = mark_tags([clips[clip]["tag"] for clip in ids])
    except (KeyError, TypeError):
        raise DataError(f"{folder / 'annotation.json'}: expected a list of tags under `tag` for every id") from None
    return ids, [part_of[clip] for clip in ids], tags, labels


def _as_labels(file: Path, vectors: Any) -> NDArray[np.int8]:
    try:
        labels = np.asarray(vectors, np.float32).reshape(len(vectors), -1)
    except (ValueError, TypeError) as error:
        raise DataError(f"{file}: expected a vector of 0 and 1 for every id: {error}") from None
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{file}: labels other than 0 and 1")
    return labels.astype(np.int8)
