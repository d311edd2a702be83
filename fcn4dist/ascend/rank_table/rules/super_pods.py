"""Super pods of format 1.2, as an A3's parser reads them in super-pod mode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fcn4dist.ascend.rank_table.findings import EI_VALUE, Findings, quote
from fcn4dist.ascend.rank_table.rules.fields import U32_MAX, get_text, iter_list, join

MAX_SUPER_POD_ID_BYTES = 127
NO_SDID = U32_MAX  # the driver's mark for "none"


class SuperDevice(NamedTuple):
    """The super_device_id of one device."""

    where: str
    server_id: str
    number: int


def check_super_pods(
    root: dict[str, Any], server_places: dict[str, str], super_devices: Iterable[SuperDevice], findings: Findings
) -> None:
    """Check super_pod_list: its servers are the table's, and no super_device_id occurs twice in a pod."""
    if "super_pod_list" not in root:
        findings.warning("super_pod_list", "the key is missing: HCCL runs every server on its own (AI-server mode)")
        return
    pods: dict[str, str] = {}
    pod_of_server: dict[str, str] = {}
    num_members = 0
    for where, pod in iter_list(root, "super_pod_list", "", findings):
        pod_id = _check_pod_id(where, pod, pods, findings)
        for path, member in iter_list(pod, "server_list", where, findings):
            num_members += 1
            server_id = get_text(member, "server_id", path, findings)
            if server_id is None:
                continue
            if server_id not in server_places:
                found = f"{quote(server_id)} is not in the table's server_list"
                findings.error(EI_VALUE, join(path, "server_id"), f"{found}; expected one of its {len(server_places)}")
            elif server_id in pod_of_server:
                found = f"{quote(server_id)} is already in super pod {quote(pod_of_server[server_id])}"
                findings.error(EI_VALUE, join(path, "server_id"), f"{found}; expected each server in one")
            else:
                pod_of_server[server_id] = pod_id
    for server_id, place in server_places.items():
        if num_members and server_id not in pod_of_server:
            findings.error(EI_VALUE, place, f"{quote(server_id)} is in no super pod; expected every server in one")
    _check_super_devices(super_devices, pod_of_server, findings)


def _check_pod_id(where: str, pod: Any, pods: dict[str, str], findings: Findings) -> str:
    pod_id = get_text(pod, "super_pod_id", where, findings)
    path = join(where, "super_pod_id")
    if pod_id is None:
        return path
    num_bytes = len(pod_id.encode())
    if not 1 <= num_bytes <= MAX_SUPER_POD_ID_BYTES:
        found = "the text is empty" if not num_bytes else f"{num_bytes} bytes"
        findings.error(EI_VALUE, path, f"{found}; expected 1 to {MAX_SUPER_POD_ID_BYTES} bytes")
        return path
    first = pods.setdefault(pod_id, path)
    if first != path:
        findings.error(EI_VALUE, path, f"{quote(pod_id)} is already at {first}; expected each super pod once")
    return pod_id


def _check_super_devices(
    super_devices: Iterable[SuperDevice], pod_of_server: dict[str, str], findings: Findings
) -> None:
    """Check that each SDID is unique in its super pod."""
    places: dict[tuple[str, int], str] = {}
    for device in super_devices:
        pod_id = pod_of_server.get(device.server_id)
        if pod_id is None:
            continue
        first = places.setdefault((pod_id, device.number), device.where)
        if first != device.where:
            found = f"{device.number} is already at {first} in super pod {quote(pod_id)}"
            findings.error(EI_VALUE, device.where, f"{found}; expected each once a super pod")
