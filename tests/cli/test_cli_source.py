"""What a job trains on: doctor, dry run, prepare, launch and train refuse the same configs with the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.cli.main import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
COMMANDS = {
    "doctor": ["doctor", "--quick"],
    "dry run": ["launch", "--dry-run"],
    "launch": ["launch"],
    "train": ["train"],
}
NO_DATA = "no data named: give --data DIR, or data.audio_dir and data.annotations; or --demo for the embedded demo set"
AUDIO = ["--set", "data.audio_dir=.", "--set", "data.annotations=tags.csv"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    code: object = 0
    try:
        main([*words])
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def first_line(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, ""), (words, out, err)
    return err.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", str(CONFIGS / "fcn4_mtt_1x8.yaml")], NO_DATA),
        (["--config", str(CONFIGS / "demo.yaml")], NO_DATA),
        (["--set", "model.channels=[4, 4, 4, 4]"], NO_DATA),
        (["--set", "data.num_consumer=3"], NO_DATA),
        (["--set", "data.split=random"], NO_DATA),
        (["--set", "data.audio_dir=."], "data.annotations: not set; audio needs"),
        (["--set", "data.npy_dir=."], "data.annotations: not set; audio needs"),
        (["--set", "data.annotations=tags.csv"], "data.audio_dir: not set; audio needs"),
        (["--set", "data.audio_dir=.", "--set", "data.npy_dir=."], "audio_dir and npy_dir are both set"),
        ([*AUDIO, "--set", "data.split=by-mood"], "data.split: 'by-mood' is no split; expected folder-12-1-3"),
        ([*AUDIO, "--set", "data.split='folder-12-1-3:'"], "data.split: 'folder-12-1-3:' is no split"),
        ([*AUDIO, "--set", "data.split=folds:f.csv:2:2"], "fold 2 cannot be both validation and test"),
        ([*AUDIO, "--set", "data.split='file:'"], "data.split: 'file:' is no split"),
        ([*AUDIO, "--set", "data.tags=[]"], "data.tags: no tags"),
        ([*AUDIO, "--set", "data.tags=[rock, jazz, rock]"], "data.tags: 'rock' is there twice"),
        ([*AUDIO, "--set", "data.path_template='{name}.mp3'"], "data.path_template: '{name}.mp3': KeyError 'name'"),
    ],
)
def test_a_bad_config_is_refused_by_all_in_the_same_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], message: str
) -> None:
    said = {name: first_line(capsys, *command, *words) for name, command in COMMANDS.items()}
    prepare = first_line(capsys, "prepare", "--set", "data.records_dir=out", *words)
    assert set(said.values()) == {said["launch"]}
    assert message in said["launch"]
    # prepare refuses the same, but names its own options
    own = {
        NO_DATA: "no audio named: give --audio-dir DIR (or --npy-dir DIR) and --annotations PLACE",
        "data.annotations: not set; audio needs": "; give --annotations PLACE",
        "data.audio_dir: not set; audio needs": "; give --audio-dir DIR (or --npy-dir DIR)",
    }
    assert "--data" not in prepare
    assert "--demo" not in prepare
    assert prepare.endswith(own[message]) if message in own else prepare == said["launch"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "nowhere: no such folder; expected one that `fcn4dist prepare` wrote"),
        (
            ["--set", "data.annotations=.", "--set", "data.audio_dir=gone"],
            "gone: no such audio folder (data.audio_dir)",
        ),
        (
            ["--set", "data.annotations=.", "--set", "data.npy_dir=gone"],
            "gone: no such folder of .npy files (data.npy_dir)",
        ),
        (AUDIO, "tags.csv: no such file or folder (data.annotations)"),
    ],
)
def test_what_is_named_but_not_there_is_refused_by_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], message: str
) -> None:
    code, out, _ = run(capsys, "doctor", "--quick", *words)  # a check among others
    assert (code, message in out) == (1, True)
    for name in ("dry run", "launch", "train"):
        assert first_line(capsys, *COMMANDS[name], *words) == f"fcn4dist: {message}"
    if "--data" not in words:
        assert first_line(capsys, "prepare", "--output", "out", *words) == f"fcn4dist: {message}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_demo_and_other_data_is_a_contradiction(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert "--demo: data.records_dir names here; leave one" in first_line(capsys, *command, "--demo", "--data", "here")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--set", "train.global_batch=32", "--set", "mel.n_mels=48", "--set", "launch.devices=2"],
        ["--demo"],
        ["--demo", "--config", str(CONFIGS / "demo.yaml")],
        ["--demo", "--config", str(CONFIGS / "debug.yaml"), "--set", "data.num_consumer=3"],
    ],
)
def test_the_demo_is_asked_for_or_follows_from_nothing_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    words = [*words, "--device-target", "CPU"]
    code, out, err = run(capsys, "launch", "--dry-run", *words)
    assert (code, err, "data: the embedded demo set" in out) == (0, "", True)
    code, out, _ = run(capsys, "doctor", "--quick", *words)
    assert (code, "the embedded demo set will be used" in out) == (0, True), out
    assert list(tmp_path.iterdir()) == []


def test_several_hosts_do_not_prepare(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "tags.csv").touch()
    place = ["--nodes", "2", "--node-rank", "0", "--master-addr", "127.0.0.1"]
    said = [first_line(capsys, *COMMANDS[name], *place, *AUDIO) for name in ("dry run", "launch")]
    assert said[0] == said[1]
    assert "over several hosts run `fcn4dist prepare` once" in said[0]


def test_a_run_goes_on_with_its_own_data_and_doctor_looks_at_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run/seed-1").mkdir(parents=True)
    Path("run/seed-1/config.yaml").write_text("data: {records_dir: gone}\nmodel: {dropout: 0.5}\n")
    for folder in ("run", "run/seed-1"):
        code, out, _ = run(capsys, "doctor", "--quick", "--resume", folder)
        assert (code, "gone: no such folder" in out) == (1, True)
    assert "gone: no such folder" in first_line(capsys, "launch", "--resume", "run/seed-1")
    assert "--demo: data.records_dir names gone" in first_line(capsys, "launch", "--resume", "run/seed-1", "--demo")
