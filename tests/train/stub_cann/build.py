"""Builds libraries that stand for CANN's, so that MindSpore's Ascend back end loads on a machine without an NPU, and compiles.

What CANN must have is read from MindSpore's own libraries, so that the stubs fit the version that is installed: every function
that they want, and that none of them has, is made here and returns 0. Those whose answers matter are in device.cc.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
TOOLS = ("g++", "nm", "readelf")
BACK_END = ("libmindspore_ascend.so.2", "libmindspore_ge_backend.so", "libhccl_plugin.so")  # loaded at run time
OF_SYSTEM = re.compile(r"lib(c|m|dl|rt|z|pthread|gcc_s|stdc\+\+|gomp)\.so|ld-linux")
OF_CANN = re.compile(r"(acl|hal[A-Z]|Hccl|rt[A-Z]|_ZNK?2ge)")
LOOKED_UP = re.compile(rb"\0(acl(?!nn)[A-Za-z0-9]{3,60})(?=\0)")  # by name, at run time
CONSTRUCTOR = re.compile(r"_ZN2ge\d+([A-Za-z]+?)C[12]E")
# of ge's classes that own nothing but a shared pointer, and a table of virtual functions or a vector: so many bytes are set to 0
SIZES = {"Operator": 24, "GraphBuffer": 24} | dict.fromkeys(
    ("AscendString", "Tensor", "TensorDesc", "Shape", "TensorType", "Promote", "Graph", "Session"), 16
)
# at run time, so no library says that it needs them
OPENED = ("libhccl.so", "libopapi.so", "libascend_hal.so", "libacl_op_compiler.so", "libacl_tdt_channel.so")


def missing_tools() -> list[str]:
    """Return what cannot be called here of what building takes."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def build(mindspore: Path, folder: Path) -> Path:
    """Return the folder of the libraries, for LD_LIBRARY_PATH; `mindspore` is the installed package."""
    own = {path.name: path for path in mindspore.rglob("*.so*") if "gpu" not in str(path)}
    back_end, missing = _loaded(own)
    out = folder / "latest" / "lib64"  # MindSpore looks for `latest` in the path
    out.mkdir(parents=True)
    objects = [out / "device.o", out / "rest.o"]
    _compile(HERE / "device.cc", objects[0])
    done = {*_symbols("--defined-only", own.values()), *_symbols("--defined-only", [objects[0]])}
    wanted = {name for name in _symbols("--undefined-only", back_end) if OF_CANN.match(name)}
    wanted |= {name.decode() for path in back_end for name in LOOKED_UP.findall(path.read_bytes())}
    rest = out / "rest.cc"
    rest.write_text("#include <cstring>\n" + "".join(f"{_stub(name)}\n" for name in sorted(wanted - done)))
    _compile(rest, objects[1])
    _link(out / "libascendcl.so", [str(path) for path in objects])
    for name in sorted({*missing, *OPENED} - {"libascendcl.so"}):
        _link(out / name, [f"-L{out}", "-Wl,--no-as-needed", "-lascendcl"])
    return out


def _stub(name: str) -> str:
    constructor = CONSTRUCTOR.match(name)
    if constructor is None:
        return f'extern "C" long {name}() {{ return 0; }}'
    return f'extern "C" void {name}(void *self) {{ std::memset(self, 0, {SIZES.get(constructor[1], 0)}); }}'


def _symbols(kind: str, libraries: Iterable[Path]) -> Iterator[str]:
    """Yield the names of functions and data; of undefined ones those that must be found."""
    for path in libraries:
        command = ["nm", kind, str(path)] if path.suffix == ".o" else ["nm", "-D", kind, str(path)]
        for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
            kind_and_name = line.split()[-2:]
            if kind_and_name[0] not in "wv":
                yield kind_and_name[1].split("@")[0]


def _loaded(own: dict[str, Path]) -> tuple[list[Path], set[str]]:
    """Return the libraries that are loaded for Ascend, and the names of those that neither MindSpore nor the system has."""
    loaded, missing = list(BACK_END), set()
    for name in loaded:
        found = subprocess.run(["readelf", "-d", str(own[name])], capture_output=True, text=True, check=True).stdout
        for needed in re.findall(r"\(NEEDED\).*\[(.+)\]", found):
            if needed in own:
                loaded += [needed] if needed not in loaded else []
            elif not OF_SYSTEM.match(needed):
                missing.add(needed)
    return [own[name] for name in loaded], missing


def _compile(source: Path, target: Path) -> None:
    # the strings of CANN's libraries, and of MindSpore's, are those of the C++ library before GCC 5
    options = ["-D_GLIBCXX_USE_CXX11_ABI=0", "-fPIC", "-O0", "-w"]
    subprocess.run(["g++", *options, "-c", str(source), "-o", str(target)], check=True)


def _link(target: Path, inputs: list[str]) -> None:
    subprocess.run(["g++", "-shared", f"-Wl,-soname,{target.name}", "-o", str(target), *inputs], check=True)
