"""A host's place in a job as Slurm and Kubernetes operators say it in the environment.

    Slurm (in a step: srun)      SLURM_STEP_NODELIST, SLURM_STEP_NUM_NODES, SLURM_STEP_NUM_TASKS, SLURM_NODEID
    Volcano (plugins env, svc)   VC_TASK_INDEX, VC_<task>_HOSTS
    AscendJob, MindSpore         MS_SCHED_HOST, MS_SCHED_PORT, MS_WORKER_NUM, MS_LOCAL_WORKER, MS_NODE_RANK
    AscendJob or PyTorchJob      MASTER_ADDR, MASTER_PORT, WORLD_SIZE, RANK, and LOCAL_WORLD_SIZE of AscendJob

One launcher a host in all of them; several tasks a host are refused, since each would start all of the host's ranks.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Mapping

from fcn4dist.ascend.addresses import find_own_address, is_routable, own_addresses, resolve_host
from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.ascend.tools import without_own
from fcn4dist.errors import ConfigError, RankTableError, pip_install
from fcn4dist.hosts.place import DEFAULT_PORT, Place, check_node_rank
from fcn4dist.job.ports import CHOICES

log = logging.getLogger(__name__)
SCONTROL_LIMIT_S = 10.0
_VOLCANO_HOSTS = re.compile(r"VC_(\w+)_HOSTS")


def place_from_environment(environ: Mapping[str, str], master_port: int | None = None) -> Place | None:
    """Return this host's place by the first source that describes more than one host, or None.

    Raises ConfigError naming the variable that is missing, malformed or not usable.
    """
    for read in (_slurm, _volcano, _ascend_job, _master_addr):
        place = read(environ, master_port)
        if place is not None:
            return place if place.num_nodes > 1 else None
    return None


def _number(environ: Mapping[str, str], name: str, source: str) -> int:
    text = environ.get(name, "").strip()
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"{name}={text or '(not set)'}: expected a whole number ({source})")
    return int(text)


def _slurm(environ: Mapping[str, str], master_port: int | None) -> Place | None:
    if "SLURM_JOB_ID" not in environ:
        return None
    if "SLURM_STEP_NODELIST" not in environ or "SLURM_STEP_NUM_TASKS" not in environ:
        if environ.get("SLURM_NNODES", "1") != "1":
            log.warning("a Slurm allocation of %s hosts, but no srun: using this host alone", environ["SLURM_NNODES"])
        return None
    hosts = expand_nodelist(environ["SLURM_STEP_NODELIST"], environ)
    nodes, tasks = len(hosts), _number(environ, "SLURM_STEP_NUM_TASKS", "Slurm")
    if tasks != nodes:
        raise ConfigError(
            f"SLURM_STEP_NUM_TASKS={tasks} on {nodes} hosts: one launcher a host starts all of its ranks; "
            "expected srun --ntasks-per-node=1"
        )
    rank = _number(environ, "SLURM_NODEID", "Slurm")
    check_node_rank(rank, nodes, "SLURM_NODEID")
    # jobs may share hosts, so each has a port of its own, the same on all of its hosts
    job = _number(environ, "SLURM_JOB_ID", "Slurm") * 7 + int(environ.get("SLURM_STEP_ID") or 0)
    port = master_port or CHOICES.start + job % len(CHOICES)
    return Place(nodes, rank, hosts[0], port, "Slurm (SLURM_STEP_NODELIST)", names=tuple(hosts))


def expand_nodelist(text: str, environ: Mapping[str, str]) -> list[str]:
    """Return the host names of a Slurm list such as "gpu[01-03,7],login", in its order.

    Slurm's own scontrol is asked; where it is not there or has no configuration, as in a container, python-hostlist is, which
    is an extra since its licence is the GPL.
    Raises ConfigError where it is no such list.
    """
    if not text.strip():
        raise ConfigError("SLURM_STEP_NODELIST is empty; expected host names")
    if "[" not in text:
        return text.split(",")
    if names := _ask_scontrol(text, environ):
        return names
    try:
        import hostlist
    except ModuleNotFoundError:
        raise ConfigError(
            f"SLURM_STEP_NODELIST={text}: scontrol does not say which hosts these are; put Slurm's scontrol on the PATH, "
            f"or {pip_install('slurm')}"
        ) from None
    try:
        names = hostlist.expand_hostlist(text, allow_duplicates=True)
    except hostlist.BadHostlist as error:
        raise ConfigError(
            f"SLURM_STEP_NODELIST={text}: {error}; expected host names such as gpu[01-03,7],login"
        ) from None
    return list(names)


def _ask_scontrol(text: str, environ: Mapping[str, str]) -> list[str]:
    """Return what `scontrol show hostnames` prints, a name a line; nothing where it does not answer."""
    command = ["scontrol", "show", "hostnames", text]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SCONTROL_LIMIT_S,
            env=without_own(environ),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.info("%s: %s", " ".join(command), error)
        return []
    return done.stdout.split() if done.returncode == 0 else []


def _volcano(environ: Mapping[str, str], master_port: int | None) -> Place | None:
    index = "VC_TASK_INDEX" if "VC_TASK_INDEX" in environ else "VK_TASK_INDEX"
    lists = {name: hosts for name, hosts in environ.items() if _VOLCANO_HOSTS.fullmatch(name) and hosts.strip()}
    if index not in environ or not lists:
        return None
    if len(lists) > 1:
        raise ConfigError(f"{' and '.join(sorted(lists))}: one kind of task is expected in the Volcano job, all alike")
    (name, text), *_ = lists.items()
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    rank = _number(environ, index, "Volcano")
    check_node_rank(rank, len(hosts), index)
    return Place(len(hosts), rank, hosts[0], master_port or DEFAULT_PORT, f"Volcano ({name})", names=tuple(hosts))


def _ascend_job(environ: Mapping[str, str], master_port: int | None) -> Place | None:
    source = "AscendJob, MindSpore"
    if not {"MS_SCHED_HOST", "MS_WORKER_NUM", "MS_LOCAL_WORKER"} <= environ.keys():
        return None
    workers = _number(environ, "MS_WORKER_NUM", source)
    local = _number(environ, "MS_LOCAL_WORKER", source)
    if local == 0:
        raise ConfigError("MS_LOCAL_WORKER=0: a scheduler pod without NPUs; expected a job whose node 0 trains as well")
    return _by_world_size(
        environ,
        workers,
        local,
        ("MS_WORKER_NUM", "MS_NODE_RANK", "MS_SCHED_HOST", "MS_SCHED_PORT"),
        source,
        master_port,
    )


def _master_addr(environ: Mapping[str, str], master_port: int | None) -> Place | None:
    source = "MASTER_ADDR"
    if not {"MASTER_ADDR", "WORLD_SIZE", "RANK"} <= environ.keys():
        return None
    world = _number(environ, "WORLD_SIZE", source)
    local = _number(environ, "LOCAL_WORLD_SIZE", source) if "LOCAL_WORLD_SIZE" in environ else 1
    if world > 1 and local > 1 and environ.get("LOCAL_RANK", "").isdigit():  # AscendJob's is a list
        raise ConfigError(
            f"LOCAL_RANK={environ['LOCAL_RANK']}: several tasks on this host, as torchrun starts them; "
            "expected one launcher a host, which starts all of its ranks"
        )
    names = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
    return _by_world_size(environ, world, local, names, source, master_port)


def _by_world_size(
    environ: Mapping[str, str], world: int, local: int, names: tuple[str, str, str, str], source: str, port: int | None
) -> Place | None:
    """Read a place where the environment counts devices: `names` are those of world size, node, host and port."""
    world_name, rank_name, host_name, port_name = names
    if local < 1 or world % local:
        raise ConfigError(f"{world_name}={world}: expected a multiple of the {local} devices of this host")
    nodes, host = world // local, environ[host_name]
    if nodes < 2:
        return None
    rank = _number(environ, rank_name, source)
    check_node_rank(rank, nodes, rank_name)
    if port is None:
        port = _number(environ, port_name, source) if environ.get(port_name) else DEFAULT_PORT
    if rank == 0:
        host = _own_name_of(host)
    devices = local if local > 1 else None
    return Place(nodes, rank, host, port, f"{source} ({host_name})", devices=devices)


def _own_name_of(host: str) -> str:
    """Return this host's own address where an operator told the master "localhost" or a service's address."""
    own = own_addresses()
    addresses = [host] if is_address(host) else resolve_host(host)
    if any(address in own and is_routable(address) for address in addresses):
        return host
    try:
        return find_own_address()
    except RankTableError:
        return host  # `resolve_master` says what is wrong with it
