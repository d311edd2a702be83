"""What CANN's error codes and MindSpore's words about CANN mean, and what to do: so that nobody has to read a plog first.

The codes are those of HCCL's own table (github.com/cann/hcomm, error messages) and of CANN's pages "Error Code Reference".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = "pip install 'fcn4dist[ascend]'; hccl, te and tbe are CANN's own: source its set_env.sh"
TABLE = "fcn4dist rank-table validate --msrun FILE; fcn4dist doctor compares it with the devices here"
BUSY = "see npu-smi info for the processes on it: end them, or leave this NPU out (ASCEND_RT_VISIBLE_DEVICES)"
LINK = "see hccn_tool -i N -link -g and -ip -g on both ends; check cable, transceiver and switch port"
NICS = "HCCL_IF_IP or HCCL_SOCKET_IFNAME must name the interface that reaches the other hosts; check firewalls between them"
PORTS = "end what listens there (ss -ltnp), reserve the ports (fcn4dist doctor says how), or set HCCL_IF_BASE_PORT"
LATE = f"{LINK}; a rank that failed before is the cause; only slow: raise launch.hccl_connect_timeout_s"
MEMORY = "end other processes on this NPU (npu-smi info), or lower train.device_batch"

CODES: dict[str, tuple[str, str]] = {
    "EI0001": ("HCCL refuses the value of an environment variable", "the message names it: unset it"),
    "EI0002": (
        "another rank did not come to a collective in time (HCCL_EXEC_TIMEOUT)",
        "see which rank failed or hangs",
    ),
    "EI0004": ("HCCL cannot read the rank table", TABLE),
    "EI0005": ("ranks call a collective with different arguments", "the same fcn4dist and config on all hosts"),
    "EI0006": ("a rank did not reach another one in time (HCCL_CONNECT_TIMEOUT)", LATE),
    "EI0007": ("the NPU has no resources left", BUSY),
    "EI0008": ("CANN has different versions on the hosts", "install the same CANN on all hosts"),
    "EI0009": ("the link between two NPUs cannot be used", LINK),
    "EI0011": ("the NPU's memory is full", MEMORY),
    "EI0013": ("the network between two NPUs failed in a collective", LINK),
    "EI0014": ("the rank table contradicts the devices", TABLE),
    "EI0015": ("HCCL could not collect the addresses of the ranks", NICS),
    "EI0017": ("the rank table lacks an entry", TABLE),
    "EI0019": ("a port of HCCL is taken on this host", PORTS),
    "EI0020": ("HCCL's port on the NPU (16666) is taken: another process uses this NPU", BUSY),
    "EJ0001": ("HCCL's process on the NPU does not start: an earlier one is still there", BUSY),
    "EJ0002": ("the NPU's network port is down", LINK),
    "EJ0003": ("a port of HCCL is taken: 60000 and up on this host, or 16666 on the NPU", f"{PORTS}; {BUSY}"),
    "EJ0004": ("HCCL refuses an address of an NPU", "see hccn_tool -i N -ip -g; each NPU has its own address"),
    "EL0004": ("the NPU's memory is full", MEMORY),
    "EC0010": ("CANN's compiler cannot import a Python module", MODULES),
    "E30006": (
        "CANN's operator package does not fit the chip",
        "install the ops package of this chip, of CANN's version",
    ),
    "E40001": ("CANN's compiler cannot import a Python module", MODULES),
    "E40002": ("CANN's compiler does not take this Python", "use Python 3.11"),
    "E40020": ("CANN's compiler cannot import a Python module", MODULES),
}
WORDS: tuple[tuple[str, str, str], ...] = (
    (r'"?hccl"? wheel was not installed', "the Python module hccl is missing", MODULES),
    (r"(lib\w+\.so[\w.]*): cannot open shared object", "the library {} is not found", "source CANN's set_env.sh"),
    (r"undefined symbol: (\w+)", "CANN has another version than MindSpore was built for ({})", "fcn4dist doctor: cann"),
    (r"\b507033\b", "the NPU cannot be opened", f"driver and CANN must fit; {BUSY}"),
    (r"\b507899\b", "the driver reports an error", "see dmesg and npu-smi info -t health -i N"),
)
_CODE = re.compile(r"\b(E[A-Z]\d{4}|E\d{5})\b")
_MODULE = re.compile(r"No module named ['\"]([\w.]+)|Failed to import Python module \[?([\w.]+)")
PLOG_LINES = 200
PLOG_BYTES = 1 << 20


@dataclass(frozen=True)
class Explanation:
    """What a failure on Ascend means."""

    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.remedy}"


def explain_error(text: str) -> Explanation | None:
    """Return what the first thing known in `text` means, a missing Python module before all; None where nothing is known."""
    if match := _MODULE.search(text):
        return Explanation(f"the Python module {match[1] or match[2]} is missing", MODULES)
    for pattern, cause, remedy in WORDS[:1]:
        if re.search(pattern, text):
            return Explanation(cause, remedy)
    for match in _CODE.finditer(text):
        if match[1] in CODES:
            cause, remedy = CODES[match[1]]
            return Explanation(f"{match[1]}, {cause}", remedy)
    for pattern, cause, remedy in WORDS:
        if match := re.search(pattern, text):
            return Explanation(cause.format(*match.groups()), remedy)
    return None


def load_plog_errors(folder: Path) -> list[str]:
    """Return the first lines of level ERROR in CANN's logs below `folder`, oldest file first; [] where there are none."""
    found: list[str] = []
    for file in sorted(folder.rglob("*.log"), key=_age):
        for line in _iter_errors(file):
            found.append(line)
            if len(found) == PLOG_LINES:
                return found
    return found


def _age(file: Path) -> float:
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0.0


def _iter_errors(file: Path) -> Iterator[str]:
    try:
        with file.open("rb") as opened:
            text = opened.read(PLOG_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return
    yield from (line for line in text.splitlines() if line.startswith("[ERROR]"))
