"""NPUs and their links, a left-over hccl_rootinfo.json, and the rank table against the devices here."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcn4dist.ascend.addresses import own_addresses
from fcn4dist.ascend.discover import Discovery, discover
from fcn4dist.ascend.rank_table.check import check_all_chips, check_document, first_error
from fcn4dist.ascend.rank_table.complete import complete_document
from fcn4dist.ascend.rank_table.findings import Finding, Verdict
from fcn4dist.ascend.rank_table.parse import load_rank_table
from fcn4dist.ascend.rank_table.read import load_table
from fcn4dist.ascend.rank_table.schema import RankTable, Server
from fcn4dist.ascend.tools import Tools, parse_npu_health
from fcn4dist.doctor.question import Check, Surroundings
from fcn4dist.errors import DeviceError, RankTableError
from fcn4dist.job.devices import missing_for_ascend

COPY = "rank_table.json"  # HCCL reads the copy that a run keeps, whatever the user's file is called


@dataclass(frozen=True)
class Npus:
    """The NPUs of this host, none where there are none, and the check that says so."""

    check: Check
    discovery: Discovery | None = None

    @property
    def device_ids(self) -> list[int]:
        """Physical ids, ascending."""
        return [] if self.discovery is None else [device.device_id for device in self.discovery.server.devices]


def examine_npus(wanted: str, num_ranks: int, num_servers: int, around: Surroundings) -> Npus:
    """Find the NPUs, their health and their links, for `wanted` ("auto", "Ascend" or "CPU").

    A link that is down stops jobs over several servers; on one it is worth a warning.
    """
    missing = missing_for_ascend(around.environ, root=around.root)
    if missing and wanted != "Ascend":
        return Npus(Check("npus", "ok", "none usable here: jobs run on CPU" + _half_there(missing)))
    if missing:
        remedy = "install driver and CANN and source set_env.sh, or use --device-target CPU"
        return Npus(Check("npus", "error", "launch.device_target is Ascend; missing: " + "; ".join(missing), remedy))
    try:
        found = discover(around.environ, paths=around.host_paths)
    except (RankTableError, DeviceError) as error:
        return Npus(Check("npus", "error", str(error), "see npu-smi info; in a container check its device list"))
    return Npus(_judge_npus(found, wanted, num_ranks, num_servers, around), found)


def _half_there(missing: list[str]) -> str:
    return "" if len(missing) > 1 else f" (missing: {missing[0]})"


def _judge_npus(found: Discovery, wanted: str, num_ranks: int, num_servers: int, around: Surroundings) -> Check:
    ids = [device.device_id for device in found.server.devices]
    said = f"{len(ids)} x {found.chip or 'NPU of unknown kind'}: devices {', '.join(map(str, ids))}"
    tools = Tools(around.environ, folders=around.host_paths.tool_folders)
    health = parse_npu_health(tools.ask_npu_smi())
    sick = [f"NPU {npu} is {state}" for npu, state in health.items() if state != "OK"]
    down = [remark for remark in found.remarks if "link is DOWN" in remark]
    if wanted != "CPU" and len(ids) < num_ranks:
        return Check("npus", "error", f"{said}; {num_ranks} ranks are asked for", "ask for fewer --devices")
    if sick:
        remedy = "see npu-smi info -t health -i N; reset it or leave it out (ASCEND_RT_VISIBLE_DEVICES)"
        return Check("npus", "error", f"{said}; {', '.join(sick)}", remedy)
    if down:
        remedy = "see hccn_tool -i N -link -g; check cable, transceiver and switch port"
        return Check("npus", "error" if num_servers > 1 else "warning", f"{said}; {'; '.join(down)}", remedy)
    if found.remarks:
        remedy = "give each NPU its address: hccn_tool -i N -ip -s address A netmask M"
        return Check("npus", "error" if _lacks_address(found, num_servers) else "warning", _join(said, found), remedy)
    return Check("npus", "ok", f"{said}; all links up")


def _join(said: str, found: Discovery) -> str:
    return f"{said}; {'; '.join(found.remarks)}"


def _lacks_address(found: Discovery, num_servers: int) -> bool:
    return num_servers > 1 and any(not device.device_ips for device in found.server.devices)


def check_root_info(npus: Npus, around: Surroundings) -> Check:
    """Check /etc/hccl_rootinfo.json, which a 950's driver writes: a left-over one contradicts the devices here."""
    file = around.root / "etc/hccl_rootinfo.json"
    name = "/etc/hccl_rootinfo.json"
    if not file.exists():
        return Check("rootinfo", "ok", f"no {name}")
    remedy = f"remove {name}, or let the driver write it anew"
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return Check("rootinfo", "warning", f"{name} cannot be read: {error}", remedy)
    if npus.discovery is None or npus.discovery.chip != "950":
        chip = "no NPU" if npus.discovery is None else npus.discovery.chip or "another chip"
        return Check("rootinfo", "warning", f"{name} is of a 950 host, here is {chip}: left over", remedy)
    version = document.get("version") if isinstance(document, dict) else None
    if version != "2.0":
        found = f"{name} has version {json.dumps(version)}; a 950 expects 2.0: left over from other hardware"
        return Check("rootinfo", "error", found, remedy)
    ranks = document.get("rank_list")
    listed = [entry.get("device_id") for entry in ranks if isinstance(entry, dict)] if isinstance(ranks, list) else []
    if strange := [device for device in listed if device not in npus.device_ids]:
        return Check("rootinfo", "error", f"{name} lists device {strange[0]}, here are {npus.device_ids}", remedy)
    return Check("rootinfo", "ok", f"{name} fits the devices here")


def find_job_size(path: Path | None, num_ranks: int) -> tuple[int, int]:
    """Return the servers and ranks of the job: the rank table's, or one host's where there is none that can be read."""
    try:
        table = None if path is None else load_rank_table(path)
    except RankTableError:
        table = None
    return (1, num_ranks) if table is None or not table.world_size else (len(table.servers), table.world_size)


def check_rank_table(path: Path, npus: Npus, num_ranks: int) -> Check:
    """Check a rank table as HCCL of the chip found here and MindSpore's scheduler do, then against the devices here."""
    chip = None if npus.discovery is None else npus.discovery.chip
    try:
        document = replace(complete_document(load_table(path)), read_as=COPY)
        verdicts = [check_document(document, chip, msrun=True)] if chip else check_all_chips(document, msrun=True)
    except RankTableError as error:
        return Check("rank-table", "error", str(error), "write one: fcn4dist rank-table generate --output FILE.json")
    accepted = [verdict for verdict in verdicts if verdict.accepted]
    remedy = f"see all: fcn4dist rank-table validate --msrun {path}"
    if not accepted:
        return Check("rank-table", "error", f"{path}: refused: {_say(first_error(verdicts[0]))}", remedy)
    table = accepted[0].table
    assert table is not None  # what is accepted was read
    said = f"{path}: {table.world_size} ranks on {len(table.servers)} servers, accepted by "
    said += ", ".join(verdict.chip for verdict in accepted)
    if problem := _compare(table, npus, num_ranks):
        return Check("rank-table", "error", f"{said}; {problem}", "write it anew: fcn4dist rank-table generate")
    if warnings := _warnings(accepted[0]):
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        return Check("rank-table", "warning", f"{said}; {_say(warnings[0])}{more}", remedy)
    return Check("rank-table", "ok", said + ("" if npus.discovery else "; no NPU here to compare it with"))


def _say(finding: Finding | None) -> str:
    return "" if finding is None else f"{finding.where}: {finding.message}"


def _warnings(verdict: Verdict) -> list[Finding]:
    return [finding for finding in verdict.findings if finding.severity == "warning"]


def _compare(table: RankTable, npus: Npus, num_ranks: int) -> str | None:
    """Return how the table contradicts this host, None where it does not (or there is no NPU to compare)."""
    if npus.discovery is None:
        return None
    server = _find_own_server(table, npus.discovery.server)
    if server is None:
        return f"none of its servers ({', '.join(s.server_id for s in table.servers[:4])}) has an address of this host"
    here = {device.device_id: device for device in npus.discovery.server.devices}
    for device in server.devices:
        if device.device_id not in here:
            return f"server {server.server_id} lists device {device.device_id}, here are {sorted(here)}"
        found, written = here[device.device_id].device_ips, device.device_ips
        if found and written and not set(found) & set(written):
            return f"device {device.device_id} has {found[0]}, the table says {written[0]}"
    if len(server.devices) != num_ranks:
        return f"it has {len(server.devices)} ranks on this host, launch.devices asks for {num_ranks}"
    return None


def _find_own_server(table: RankTable, own: Server) -> Server | None:
    addresses = own_addresses() | {own.server_id}
    for server in table.servers:
        if addresses & {server.server_id, server.host_ip, server.pod_ip}:
            return server
    return table.servers[0] if len(table.servers) == 1 else None
