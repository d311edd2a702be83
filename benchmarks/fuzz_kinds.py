"""What is damaged: each kind of file, good ones to begin with, and the commands or readers that get them.

Seeds come from the repository's own tests and from `../shared/data` where it is there; the others are written here, small.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz_annotations import formats, lines, npy
from fcn4dist.errors import CheckpointError, DataError

ROOT = Path(__file__).resolve().parents[1]
TABLES = (ROOT / "tests/ascend/rank_table/tables", ROOT / "rank_tables", ROOT.parent / "shared/data/ranktables")
RECORDINGS = (ROOT / "tests/data/recorded", ROOT.parent / "shared/data/esc10", ROOT.parent / "shared/data/music")
MOST_BYTES = 30_000  # of a seed
OUTPUT = "out.json"
ENCODED = {"wav": "PCM_16 PCM_U8 PCM_24 FLOAT ULAW IMA_ADPCM", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III",
           "aiff": "PCM_16", "au": "PCM_16", "caf": "ALAC_16", "w64": "PCM_16"}  # fmt: skip
RATE_HZ = 12_000
SET = ("model.pools=[[2,2],[2,2],[2,2]]", "mel.n_mels=8", "mel.clip_s=0.3", "data.tags=all", "data.num_consumer=2",
       "data.split=official", "data.num_workers=1")  # fmt: skip

Command = tuple[str, ...] | Callable[[], bytes]  # words of the command line ("@FILE": its content), or a reader


@dataclass(frozen=True)
class Seed:
    """A folder of good files."""

    files: dict[str, bytes]  # path -> content
    victims: tuple[str, ...]  # those that are damaged, one at a time
    commands: tuple[Command, ...]  # one of them gets the folder
    is_proven: bool = False  # the product proves the content: another one may not be accepted


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    seeds: Callable[[], Iterator[Seed]]
    most: int = 100_000  # cases
    set_up: Callable[[], None] = lambda: None  # in the process that runs its cases


def _small_files(folders: tuple[Path, ...], *suffixes: str) -> list[Path]:
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in suffixes]
    return [path for path in found if path.stat().st_size < MOST_BYTES]


# Rank tables


def rank_tables() -> Iterator[Seed]:
    """Every table of the tests, of rank_tables/, and those that other people wrote."""
    name, output = "table.json", ("--output", OUTPUT)
    words = [("validate", name), ("validate", name, "--msrun", "--json"), ("show", name), ("show", name, "--json"),
             ("merge", name, *output), ("merge", "other.json", name), ("convert", name, "--to", "1.0", *output),
             ("convert", name, "--to", "1.2"), ("convert", name, "--to", "template-two", *output)]  # fmt: skip
    other = (ROOT / "rank_tables/1x8.json").read_bytes()
    for file in _small_files(TABLES, ".json"):
        yield Seed({name: file.read_bytes(), "other.json": other}, (name,), tuple(("rank-table", *w) for w in words))


# Annotations


def annotation_tables() -> Iterator[Seed]:
    """A small set of every format, as its authors write it; MagnaTagATune's own table where it is there."""
    real = ROOT.parent / "shared/data/magnatagatune/annotations_val_test.csv"
    sets = list(formats())
    if real.is_file():
        with real.open("rb") as stream:
            sets.append(("real.csv", {"real.csv": b"".join(itertools.islice(stream, 25))}))
    for place, files in sets:
        named: tuple[str, ...] = (
            "data",
            "splits",
            "--annotations",
            f"set/{place}".removesuffix("/."),
            "--set",
            "data.tags=all",
        )
        if any(name.startswith(("filtered", "train_x", "annotation.json", "balanced")) for name in files):
            named = (*named, "--set", "data.path_template={id}.mp3")
        commands = [
            (*named, "--split", split, *more)
            for split in ("official", "random", "folder-12-1-3", "folds:1")
            for more in (("--clean",), ("--json",))
        ]
        moved = {f"set/{name}": content for name, content in files.items()}
        yield Seed(moved, tuple(moved), tuple(commands))


def tag_tables() -> Iterator[Seed]:
    """Lists of tags, synonyms, folds, parts and paths, beside good annotations."""
    table = lines("file,tags\n", lambda i: f"f/{i}.wav,rock;genre {i % 3}\n")
    by_fold = lines("path,fold\n", lambda i: f"f/{i}.wav,{1 + i % 3}\n")
    by_part = lines("path\tsplit\n", lambda i: f"f/{i}.wav\t{('train', 'val', 'test')[i % 3]}\n")
    paths = lines("id,path\n", lambda i: f"f/{i}.wav,g/{i}.mp3\n")
    for name, content, keys in (
        ("tags.txt", b"rock\ngenre 0\ngenre 1\n", ["data.tags=tags.txt"]),
        ("syn.txt", b"# merged\nmusic, rock, pop\ngenre 0, genre 1\n", ["data.synonyms=syn.txt", "data.tags=all"]),
        ("syn.yaml", b"- [music, rock, pop]\n- ['genre 0', genre 1]\n", ["data.synonyms=syn.yaml", "data.tags=all"]),
        ("folds.csv", by_fold, ["data.split=folds:folds.csv:1:2", "data.tags=all"]),
        ("parts.tsv", by_part, ["data.split=file:parts.tsv", "data.tags=all"]),
        ("paths.csv", paths, ["data.path_map=paths.csv", "data.split=random", "data.tags=all"]),
    ):
        words = ["data", "splits", "--annotations", "t.csv", "--clean", "--json"]
        if not any(key.startswith("data.split") for key in keys):
            words += ["--split", "random"]
        command = (*words, *(word for key in keys for word in ("--set", key)))
        yield Seed({"t.csv": table, name: content}, (name,), (command,))


# Audio


def _encode(subtype: str, name: str, channels: int = 1, rate_hz: int = 16_000) -> bytes:
    import soundfile

    t = np.arange(rate_hz // 2) / rate_hz
    wave = np.stack([0.5 * np.sin(2 * np.pi * 440 * (1 + c) * t) for c in range(channels)], axis=1)
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate_hz, format=name, subtype=subtype)
    return stream.getvalue()


def audio() -> Iterator[Seed]:
    """Recordings that ffmpeg and LAME wrote, real ones, and half a second in the formats of libsndfile; a .npy mel."""
    recorded = _small_files(RECORDINGS, ".mp3", ".wav", ".flac", ".ogg", ".opus", ".aiff")
    files = [(file.suffix, file.read_bytes()) for file in recorded]
    for name, subtypes in ENCODED.items():
        files += [(f".{name}", _encode(subtype, name.upper(), 1 + i % 2)) for i, subtype in enumerate(subtypes.split())]
    for suffix, content in files:
        name = f"song{suffix}"
        tag = ("tag", name, "--checkpoint", "net.onnx", "--json", "--top", "2")
        yield Seed({name: content}, (name,), (partial(_load_clip, name), tag))
    mel = np.linspace(-80, 0, 8 * 15, dtype=np.float32).reshape(1, 1, 8, 15)
    for array in (mel, mel.astype(np.float64), np.asfortranarray(mel[0, 0])):
        yield Seed({"song.npy": npy(array)}, ("song.npy",), (_load_mel,))


def _load_clip(name: str) -> bytes:
    """Read a clip as prepare does; the ledger's reason is its refusal."""
    from fcn4dist.data.audio import UnusableClipError, load_clip

    try:
        clip = load_clip(Path(name), RATE_HZ, RATE_HZ)
    except UnusableClipError as error:
        raise DataError(f"{name}: {error}") from None
    assert clip.wave.shape == (RATE_HZ,), "a clip of another length"
    assert np.isfinite(clip.wave).all(), "a clip that is not finite"
    assert 0 < clip.duration_s < 1e6, f"a clip of {clip.duration_s} s"
    return clip.wave.tobytes() + f"{clip.duration_s} {clip.note}".encode()


def _load_mel() -> bytes:
    from fcn4dist.config import MelConfig
    from fcn4dist.data.audio import UnusableClipError
    from fcn4dist.data.mel_npy import load_mel_npy

    try:
        content: bytes = load_mel_npy(Path("song.npy"), MelConfig(n_mels=8, clip_s=0.3)).tobytes()
        return content
    except UnusableClipError as error:
        raise DataError(f"song.npy: {error}") from None


class Loudness:
    """A network for `tag` that costs nothing: the loudest value is its score."""

    compiles_each_batch = False

    def __init__(self) -> None:
        from fcn4dist.config import MelConfig, ModelConfig
        from fcn4dist.export.scorer import Listener

        self.listener = Listener(MelConfig(n_mels=24, clip_s=1.0), ModelConfig(pools=[(2, 2)] * 3), ("loud", "soft"))

    def score(self, mel_db: Any) -> Any:
        """Return scores (N, 2)."""
        loud = 1 / (1 + np.exp(-mel_db.max(axis=(1, 2, 3)) / 10))
        return np.stack([loud, 1 - loud], axis=1)


def hear_without_network() -> None:
    """Have `tag` use Loudness: what is tried here is its decoder."""
    from fcn4dist.tag import tagger

    vars(tagger)["open_scorer"] = lambda path, config: Loudness()


# Checkpoints


def checkpoints() -> Iterator[Seed]:
    """Two checkpoints of one run in each format: where the newer is damaged, the older must be found, or the same content."""
    import mindspore as ms

    from fcn4dist.config import CheckpointConfig, MelConfig, ModelConfig
    from fcn4dist.train.checkpoint import Checkpoints, ModelCard, Origin, Progress

    card = ModelCard(name="MusicTagger", model=ModelConfig(), mel=MelConfig(), tags=["rock", "naïve"], split_name="s")
    for file_format in ("safetensors", "ckpt"):
        config = CheckpointConfig(format=file_format)
        shutil.rmtree("run", ignore_errors=True)
        writer = Checkpoints(Path("run"), config, card, "digest", Origin(train_clips="abc"))
        for step in (3, 7):
            rng = np.random.default_rng(step)
            values = [ms.Parameter(ms.Tensor(rng.normal(size=shape).astype(np.float32)), name=f"layer{i}.weight")
                      for i, shape in enumerate([(3, 4), (4,), (5, 2), (1,), (7,)] * 2)]  # fmt: skip
            writer.save(Progress(step=step, global_batch=8, seed=1, best_score=0.71), values[:5], values[5:])
        files = {str(path): path.read_bytes() for path in sorted(Path("run").rglob("*")) if path.is_file()}
        yield Seed(files, tuple(name for name in files if "step-00000007" in name), (_read_newest,), is_proven=True)


def _read_newest() -> bytes:
    from fcn4dist.model.parameters import read_parameters
    from fcn4dist.run.checkpoints import find_newest

    path, state, damaged = find_newest(Path("run"))
    if path.name != "step-00000007":
        raise CheckpointError("\n".join(damaged) or f"run: {path} was found")
    arrays = [
        (name, values.asnumpy().tobytes())
        for file in sorted(state.sha256)
        for name, values in read_parameters(path / file).items()
    ]
    return repr((state, arrays)).encode()


def weights() -> Iterator[Seed]:
    """A network's file as ModelZoo writes it: it has no digest, so other numbers are not noticed, but another network is."""
    import mindspore as ms

    from fcn4dist.model.modelzoo import NAMES

    rng, widths = np.random.default_rng(1), [1, 2, 2, 3, 3]
    shapes = {"dense.weight": (2, 3), "dense.bias": (2,)}
    for name in NAMES[:-2]:
        i = int(name.partition(".")[0][-1])
        shapes[name] = (widths[i], widths[i - 1], 3, 3) if name.startswith("conv") else (widths[i],)
    entries = [{"name": name, "data": ms.Tensor(rng.normal(size=shapes[name]).astype(np.float32))} for name in NAMES]
    for suffix in ("ckpt", "safetensors"):
        name = f"zoo.{suffix}"
        ms.save_checkpoint(entries, name, format=suffix)
        yield Seed({name: Path(name).read_bytes()}, (name,), (partial(_load_weights, name),))


def _load_weights(name: str) -> bytes:
    from fcn4dist.model.modelzoo import load_modelzoo

    loaded = load_modelzoo(Path(name))
    return b"".join(key.encode() + value.tobytes() for key, value in loaded.values.items())


# Data sets


def data_sets() -> Iterator[Seed]:
    """A set of twelve clips that prepare made; with data.verify=digest no other row may come out of its shards."""
    from fcn4dist.config import load_config
    from fcn4dist.data.prepare import prepare

    table = lines("file,tags,split\n", lambda i: f"{i}.wav,rock;genre {i % 2},{('train', 'val')[i % 3 // 2]}\n")
    Path("t.csv").write_bytes(table)
    for i in range(12):
        Path(f"{i}.wav").write_bytes(_encode("PCM_16", "WAV", rate_hz=8000 + 100 * i))
    given = ["data.audio_dir=.", "data.annotations=t.csv", "data.records_dir=DATA", *SET]
    prepare(load_config(None, given))
    files = {str(path): path.read_bytes() for path in sorted(Path("DATA").iterdir())}
    shards = tuple(name for name in files if ".mindrecord" in name)
    yield Seed(files, shards, (partial(_read_rows, "digest"),), is_proven=True)
    stats = ("data", "stats", "DATA", "--json")
    yield Seed(files, ("DATA/clips.tsv",), (partial(_read_rows, "digest"), stats))
    yield Seed(files, ("DATA/manifest.json",), (partial(_read_rows, "size"), stats))
    bare = {name: content for name, content in files.items() if name in shards}
    yield Seed(bare, shards, (partial(_read_rows, "size"), stats))


def _read_rows(verify: Any) -> bytes:
    """Check and read a set as a training and an evaluation do."""
    from fcn4dist.data.dataset import open_dataset

    data = open_dataset(Path("DATA"))
    data.check(verify)
    digest = hashlib.sha256(repr((data.tags, data.mel, data.split_name)).encode())
    for part in data.parts:
        split = data.split(part)
        digest.update(split.labels.tobytes() + split.clip_ids.tobytes() + repr(split.groups).encode())
        for batch in split.iter_batches(np.arange(split.num_clips), 4):
            digest.update(batch.mel_db.tobytes() + batch.labels.tobytes() + batch.clip_ids.tobytes())
    return digest.digest()


# Configs

MODELZOO = """lr: 0.002
batch_size: 24
epoch_size: 7
loss_scale: 512.0
mixed_precision: True
num_classes: 40
num_consumer: 3
audio_path: "/music/mp3"
info_path: "/music"
info_name: 'table.csv'
data_dir: "/music/mr"
mr_name: ['train', 'val']
device_target: Ascend
keep_checkpoint_max: 4
save_step: 300
prefix: 'Tagger'
model_name: 'Tagger-7_300.ckpt'
---
lr: "learning rate"
---
device_target: ['Ascend', 'GPU', 'CPU']
"""
PYTHON = """from easydict import EasyDict as edict
music_cfg = edict({
    'pre_trained': False,
    'lr': 0.0005,
    'batch_size': 32,
    'epoch_size': 10,
    'loss_scale': 1024.0,
    'num_consumer': 4,
    'mixed_precision': False,
    'data_dir': '/music/mr',
    'mr_name': ['train', 'val'],
})
music_cfg.save_step = 2000
music_cfg['keep_checkpoint_max'] = 10
"""
OVERRIDES = ("train.lr=0.001", "model.channels=[4, 4, 6, 8]", "data.split=folds:a.csv:1", "augment.mixup=0.3",
             "model.pools=[[2, 2], [2, 2], [2, 2]]", "launch.device_target=CPU", "train.loss_scale=dynamic",
             "data.tags=[rock, pop]", "train.epochs=3", "mel.stored_s=30", "launch.track=mlflow")  # fmt: skip


def configs() -> Iterator[Seed]:
    """The repository's configs, `--set`, ModelZoo's configs, and a cluster as an operator writes it down."""
    shows = [("config", "show", "--config", "c.yaml", *more) for more in ((), ("--json",), ("--set", "train.lr=0.1"))]
    for file in sorted((ROOT / "configs").glob("*.yaml")):
        yield Seed({"c.yaml": file.read_bytes()}, ("c.yaml",), tuple(shows))
    for override in OVERRIDES:  # the file has the option's name, which messages begin with
        yield Seed({"--set": override.encode()}, ("--set",), (("config", "show", "--set", "@--set"),))
    for name, text in (("default_config.yaml", MODELZOO), ("config.py", PYTHON)):
        imports = ("config", "import-modelzoo", name)
        yield Seed({name: text.encode()}, (name,), (imports, (*imports, "--output", OUTPUT)))
    for chip, name in (("a3", "a3-super-pods.yaml"), ("950", "950.yaml")):
        words = ("rank-table", "generate", "--chip", chip, "--inventory", name)
        yield Seed({name: (ROOT / "rank_tables" / name).read_bytes()}, (name,), (words, (*words, "--output", OUTPUT)))
    by_hosts = ("rank-table", "generate", "--chip", "910b", "--hostfile", "hosts.txt", "--device-ip-pattern")
    hosts = (ROOT / "rank_tables/hosts.txt").read_bytes() + b"192.0.2.9 192.0.2.10 devices=0-3,6\n"
    yield Seed({"hosts.txt": hosts}, ("hosts.txt",), ((*by_hosts, "198.18.0.0/15"),))


KINDS = {
    "rank-table": Kind(rank_tables),
    "annotations": Kind(annotation_tables),
    "tags": Kind(tag_tables),
    "audio": Kind(audio, set_up=hear_without_network),
    "checkpoint": Kind(checkpoints),
    "weights": Kind(weights),
    "data-set": Kind(data_sets),
    "config": Kind(configs),
}
