"""The step as MindSpore's own Ascend back end compiles it for five chips, over libraries that stand for CANN's.

Nothing is computed. What is looked at is the graph of rank 0 of 8 at the end of the front end and, where a chip gets that far,
after each operator was given a kernel.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from graph_text import Node, parse_graph, reached
from stub_cann.build import build, missing_tools

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parents[2]
CHIPS = {
    "910A": "Ascend910A",
    "910B": "Ascend910B2",
    "A3": "Ascend910_9391",
    "950": "Ascend950PR_9599",
    "310P": "Ascend310P3",
}
# (chip, level, forms): O0, O2 and O3, 1 and 4 micro-batches; each a process, since a process has one chip and one level
QUICK = [
    ("910A", 0, ("O0:1", "O2:4")),
    ("910B", 1, ("O2:1",)),
]
ALL = [(chip, 0, tuple(f"{amp}:{parts}" for amp in ("O0", "O2", "O3") for parts in (1, 4))) for chip in CHIPS]
ALL += [("910B", 1, ("O2:1",)), ("A3", 1, ("O3:1",)), ("950", 1, ("O0:1",)), ("310P", 1, ("O2:1",))]
MISSING = r"OperatorFactory is not exist, op type: Conv2D|aclnnInit not in \S*libopapi.so"  # CANN's own operators


@dataclass(frozen=True)
class Compiled:
    """One form of the step on one chip."""

    chip: str
    level: int
    amp: str
    num_parts: int
    graphs: list[list[Node]]  # one, or with accumulation two: a micro-batch, and the end of the step
    chosen: list[str]  # the texts of the graphs after each operator was given a kernel, at level 1
    num_single_kernels: int
    error: str


@pytest.fixture(scope="module")
def cann(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the libraries for LD_LIBRARY_PATH; skip where they cannot be built, or this MindSpore has no back end for them."""
    found = importlib.util.find_spec("mindspore")
    if found is None or found.origin is None:
        pytest.skip("MindSpore is not installed")
    package = Path(found.origin).parent
    version = (package / "version.py").read_text()
    if "2.10" not in version:
        pytest.skip(f"MindSpore 2.10 compiles over stubs, this is {version.strip()}")
    if platform.machine() != "x86_64" or missing_tools():
        pytest.skip(f"libraries cannot be built on {platform.machine()} without {', '.join(missing_tools()) or 'x86'}")
    return build(package, tmp_path_factory.mktemp("cann"))


def compile_steps(cann: Path, folder: Path, runs: list[tuple[str, int, tuple[str, ...]]]) -> list[Compiled]:
    """Compile for all `runs`, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda item: _compile(cann, folder / str(item[0]), *item[1]), enumerate(runs))
        return [compiled for some in found for compiled in some]


def stubs_of(cann: Path, chip: str, folder: Path) -> dict[str, str]:
    """Return the environment in which MindSpore finds the chip; graphs are written into `folder`."""
    return {
        "LD_LIBRARY_PATH": str(cann),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE / 'stub_cann'}",
        "STUB_SOC": CHIPS[chip],
        "MS_DEV_SAVE_GRAPHS": "2",
        "MS_DEV_DUMP_IR_PASSES": "validate,end_opt_acl_graph_after_kernel_select",
        "MS_DEV_SAVE_GRAPHS_PATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "GLOG_v": "4",
    }


def _compile(cann: Path, folder: Path, chip: str, level: int, forms: tuple[str, ...]) -> list[Compiled]:
    folder.mkdir()
    command = [sys.executable, str(HERE / "stub_cann" / "compile_step.py"), str(level), *forms]
    process = subprocess.run(
        command,
        env={**os.environ, **stubs_of(cann, chip, folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 1 + len(forms), process.stderr[-2000:]
    assert CHIPS[chip].lower().startswith(lines[0]["soc"]), lines[0]
    assert lines[0]["deterministic"] == "true"
    return [_read(chip, level, line) for line in lines[1:]]


def _read(chip: str, level: int, line: dict[str, Any]) -> Compiled:
    texts = {path: Path(path).read_text() for path in line["graphs"]}
    whole = [parse_graph(text) for path, text in texts.items() if "_validate_" in path]
    chosen = [text for path, text in texts.items() if re.search(r"kernel_select_\d{1,3}_", path)]
    amp, num_parts = line["form"].split(":")
    return Compiled(chip, level, amp, int(num_parts), whole, chosen, line["kernels"], line["error"])


@pytest.fixture(scope="module")
def quick(cann: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Compiled]:
    return compile_steps(cann, tmp_path_factory.mktemp("quick"), QUICK)


def of(nodes: list[Node], *operators: str) -> list[Node]:
    return [node for node in nodes if node.operator in operators]


def check(step: Compiled) -> None:
    """What holds on every chip."""
    where = f"{step.chip} {step.amp} {step.num_parts}"
    assert len(step.graphs) == (1 if step.num_parts == 1 else 2), where
    assert step.num_single_kernels == 0, where  # all that a step does is in its graphs
    forward, end = step.graphs[0], step.graphs[-1]
    everything = [node for graph in step.graphs for node in graph]
    (reduce,) = of(everything, "AllReduce")
    assert reduce in end
    weights = 9 * (1 * 4 + 3 * 4 * 4) + 2 * 16 + 5 * 4 + 5
    size = weights + 2 * 16 + 4  # statistics; the loss, the known labels, the wish to stop, the overflow
    assert reduce.output_types == (("Float32", str(size)),), where
    assert not of(everything, "AllGather", "Broadcast", "ReduceScatter", "AlltoAll"), where
    for status in of(everything, "NPUGetFloatStatusV2", "NPUGetFloatStatus", "AllFinite"):
        assert not reached(end, status, but_not_through="AllReduce") & {"Switch", "Assign", "Return", "Adam"}, where
        assert reached(end, status, but_not_through="nothing") >= {"AllReduce", "Switch"}, where
    registers = of(everything, "NPUGetFloatStatusV2")
    assert len(registers) == (step.chip == "910A"), where
    assert registers or of(everything, "AllFinite", "IsFinite"), where
    convolutions, norms = of(forward, "Conv2D"), of(forward, "BatchNorm", "BatchNormGrad")
    assert (len(convolutions), len(norms)) == (4, 8), where
    assert {node.input_types[0][0] for node in convolutions} == {"Float32" if step.amp == "O0" else "Float16"}, where
    assert {node.input_types[0][0] for node in norms} == {"Float16" if step.amp == "O3" else "Float32"}, where
    assert len(of(end, "Adam")) == 14, where


def check_kernels(step: Compiled) -> None:
    """910B, A3, 950 and 310P give each operator a kernel; what they cannot compute themselves, MindSpore gives to the CPU."""
    assert re.match(MISSING, step.error), (step.chip, step.error)
    assert sum(len(of(parse_graph(text), "AllReduce")) for text in step.chosen) == 1, step.chip
    assert not any('primitive_target: "CPU"' in text for text in step.chosen), step.chip


def test_the_step_is_as_it_should_be_on_two_chips(quick: list[Compiled]) -> None:
    """Overflow is a register on the 910A, an operator on the 910B and later; the slow test has all chips."""
    assert {step.chip for step in quick} == {"910A", "910B"}
    for step in quick:
        check(step)


def test_chips_with_kernels_of_their_own_compute_nothing_on_the_host(quick: list[Compiled]) -> None:
    compiled = [step for step in quick if step.level == 1]
    assert {step.chip for step in compiled} == {"910B"}
    for step in compiled:
        check_kernels(step)


def test_a_register_that_is_not_reduced_would_be_found(quick: list[Compiled]) -> None:
    (step,) = [step for step in quick if step.chip == "910A" and step.num_parts == 1]
    (nodes,) = step.graphs
    (status,) = of(nodes, "NPUGetFloatStatusV2")
    assert "Switch" in reached(nodes, status, but_not_through="nothing")


SCORING = """
from fcn4dist.train.device import start_device
from mindspore._c_expression import AscendOpPrecisionConf
for is_scoring in (False, True):
    start_device("Ascend", 0, is_scoring=is_scoring)
    print("hf32", AscendOpPrecisionConf.get_instance().conv_allow_hf32())
"""


def test_scoring_leaves_hf32_to_training(cann: Path, tmp_path: Path) -> None:
    environment = {**os.environ, **stubs_of(cann, "910B", tmp_path)}
    command = [sys.executable, "-c", SCORING]
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [line.rstrip() for line in found.stdout.splitlines()[-2:]] == ["hf32", "hf32 0"], found.stderr[-2000:]


@pytest.mark.slow
def test_every_form_on_every_chip(cann: Path, tmp_path: Path) -> None:
    found = compile_steps(cann, tmp_path, ALL)
    assert len(found) == len(CHIPS) * 6 + 4
    for step in found:
        check(step)
        if step.level == 1:
            check_kernels(step)
