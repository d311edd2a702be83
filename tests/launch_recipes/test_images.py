"""The container images: what they copy is there, and the entry point finds CANN wherever its version has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINT = ROOT / "docker/ascend-entrypoint.sh"


def start(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command through the entry point, with CANN and the driver under `root`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("ASCEND_HOME_PATH", "LD_LIBRARY_PATH")}
    environment = {**kept, "ASCEND_ROOT": str(root), **variables}
    return subprocess.run(
        [str(ENTRY_POINT), *command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def install(folder: Path, version: str) -> None:
    """Make a CANN whose script, like the real one, reads a variable that may not be set and asks for its own place."""
    folder.mkdir(parents=True)
    (folder / "set_env.sh").write_text(
        f'export CANN_FOUND={version} LD_LIBRARY_PATH="{folder}/lib64:$LD_LIBRARY_PATH"\n[ -n "$ZSH_VERSION" ] && false\n'
    )


@pytest.mark.parametrize(
    ("installed", "expected"),
    [(["ascend-toolkit"], "ascend-toolkit"), (["cann"], "cann"), (["ascend-toolkit", "cann"], "cann")],
)
def test_the_entry_point_takes_the_newest_place_of_cann(tmp_path: Path, installed: list[str], expected: str) -> None:
    for place in installed:
        install(tmp_path / place, place)
    done = start(tmp_path, "sh", "-c", 'echo "$CANN_FOUND"; echo "$LD_LIBRARY_PATH"; exit 7')
    found, libraries = done.stdout.splitlines()
    assert (found, done.stderr, done.returncode) == (expected, "", 7)
    assert libraries.split(":")[0] == f"{tmp_path}/{expected}/lib64"
    assert f"{tmp_path}/driver/lib64/driver" in libraries.split(":")


def test_a_named_cann_wins(tmp_path: Path) -> None:
    install(tmp_path / "cann", "cann")
    install(tmp_path / "cann-9.1.0", "named")
    done = start(tmp_path, "sh", "-c", 'echo "$CANN_FOUND"', ASCEND_HOME_PATH=f"{tmp_path}/cann-9.1.0")
    assert done.stdout == "named\n"


def test_without_cann_the_command_runs_and_the_reason_is_said(tmp_path: Path) -> None:
    done = start(tmp_path, "echo", "two words")
    assert (done.returncode, done.stdout) == (0, "two words\n")
    assert f"no set_env.sh in {tmp_path}/cann or {tmp_path}/ascend-toolkit" in done.stderr


def test_the_command_takes_the_place_of_the_entry_point(tmp_path: Path) -> None:
    """A container's first process gets the signals: it must be the launcher, not a shell before it."""
    with subprocess.Popen([str(ENTRY_POINT), "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid


def test_the_images_get_files_that_exist() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    given = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    assert [name for name in given if not (ROOT / name).exists()] == []
    for file in (ROOT / "docker").glob("Dockerfile.*"):
        asked = {word.strip("'").removeprefix("/src/") for word in file.read_text().split() if word.startswith("/src/")}
        assert asked <= set(given), file.name
