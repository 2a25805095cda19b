"""The examples in `cluster/`: what they would start is what Ray, KubeRay and make understand."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SLURM, KUBERAY = ROOT / "cluster/slurm.sh", ROOT / "cluster/kuberay.yaml"
JOB = "make reproduce ENGINE=ray SCALE=paper"
SURROUNDINGS = {
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_CPUS_PER_TASK": "16",
    "SLURM_GPUS_ON_NODE": "4",
}
# What stands in for SLURM, which starts the same on every node, and for Ray, which tells of it.
PROGRAMS = {
    "scontrol": "#!/bin/sh\nprintf 'node1\\nnode2\\n'\n",
    "srun": '#!/bin/sh\nexec "$@"\n',
    "ray": '#!/bin/sh\necho "$RAY_AUTH_MODE $*" >> asked\n',
}


def submitted(folder, **more):
    """Commands that the SLURM job gives Ray, a line each."""
    for name, program in PROGRAMS.items():
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)
    surroundings = {"PATH": f"{folder}:/usr/bin:/bin", **SURROUNDINGS, **more}
    job = ["bash", str(SLURM)]
    return subprocess.run(job, cwd=folder, env=surroundings, capture_output=True, text=True)


def test_the_slurm_job_starts_ray_on_every_node_and_make_on_the_first(tmp_path):
    assert submitted(tmp_path).returncode == 0
    token, run = (tmp_path / "asked").read_text().splitlines()
    assert token == "token get-auth-token --generate"
    start = "--address node1:6379 --min-nodes 2 --num-cpus 16 --num-gpus 4"
    assert run == f"token symmetric-run {start} -- env RAY_ADDRESS=auto {JOB}"


def test_the_slurm_job_refuses_a_record_that_nodes_cannot_share(tmp_path):
    refused = submitted(tmp_path, MLFLOW_TRACKING_URI="")
    assert refused.returncode != 0 and "names no MLflow server" in refused.stderr
    assert not (tmp_path / "asked").exists()


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_ray_knows_the_options_that_the_slurm_job_gives_it():
    code = (
        "from ray.scripts.scripts import cli, start; from ray.scripts.symmetric_run import *;"
        "print(*(o for c in (start, symmetric_run) for p in c.params for o in p.opts));"
        "print(*cli.commands)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    given = re.search(r"ray (symmetric-run .*?) -- ", SLURM.read_text().replace("\\\n", ""))[1]
    asked = {word for word in given.split() if word.startswith("--")} | {"get-auth-token"}
    assert asked | {"symmetric-run"} <= set(told.stdout.split())


def containers(group):
    return group["template"]["spec"]["containers"]


def test_the_kubernetes_job_is_a_ray_job_with_gpus_and_a_record_that_all_reach():
    job = yaml.safe_load(KUBERAY.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec["entrypoint"] == JOB and spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    assert {*map(type, {**head["rayStartParams"], **workers["rayStartParams"]}.values())} <= {str}
    (first,), (other,) = containers(head), containers(workers)
    assert other["resources"]["limits"]["nvidia.com/gpu"] >= 1
    assert first["image"] == other["image"] and first["env"] == other["env"]
    (uri,) = [v["value"] for v in first["env"] if v["name"] == "MLFLOW_TRACKING_URI"]
    assert uri.startswith("http://")


def test_the_kubernetes_job_names_the_ray_of_the_lock():
    pin = re.search(r"^ray==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    if pin is None:
        pytest.skip("the lock has no Ray")
    cluster = yaml.safe_load(KUBERAY.read_text())["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == pin[1]


def test_make_understands_what_the_examples_ask_of_it():
    make = ["make", "-n", *JOB.split()[1:]]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert "deimos.execution.ray_engine" in said.stdout and "--scale paper" in said.stdout
