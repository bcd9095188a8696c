"""The files that start clusters: each is what it is for, and they agree with each other and with the code."""

import inspect
import os
import re
import signal
import sys
import tomllib
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path

import dask_kubernetes
import jsonschema
import pytest
import yaml
from dask.utils import parse_bytes
from distributed import LocalCluster, Nanny, Scheduler, SSHCluster, Worker

from mimii.engine import elsewhere
from mimii.engine.cluster import SCHEDULER_ENVIRONMENT, WORKER_ENVIRONMENT
from mimii.engine.schedulers import (
    ClusterClass,
    Manifest,
    SchedulerError,
    Where,
    WorkError,
    read_cluster_file,
)
from tests.helpers.commands import ROOT, assert_same_bytes, featurize, featurize_from_here, featurize_here, wait_for
from tests.helpers.dask_processes import SCHEDULER, WORKER, running, start
from tests.helpers.recordings import write_machines

EXAMPLES = sorted((ROOT / "docs/clusters").glob("*.yaml"))
CLASSES = {
    "ec2": ("dask_cloudprovider.aws", "EC2Cluster"),
    "fargate": ("dask_cloudprovider.aws", "FargateCluster"),
    "gateway": ("dask_gateway", "GatewayCluster"),
    "gateway_running": ("dask_gateway", "GatewayCluster.from_name"),
    "local": ("distributed", "LocalCluster"),
    "slurm": ("dask_jobqueue", "SLURMCluster"),
    "ssh": ("distributed", "SSHCluster"),
}
SECRET = re.compile(r"AKIA|ASIA|(?i:secret)|\b(password|token): \S|BEGIN [A-Z ]*KEY")
ALL_ADDRESSES = re.compile(r"0\.0\.0\.0|dashboard_address: ['\"]?:")


@pytest.fixture(scope="module")
def manifest():
    meant = read_cluster_file(str(ROOT / "cluster.yaml"))
    assert isinstance(meant, Manifest)
    return meant.document


@pytest.fixture(scope="module")
def schema():
    """Return what checks against the operator's own schema of a DaskCluster, and refuses what that does not know."""
    charts = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator"
    document = yaml.load((charts / "crds/daskcluster.yaml").read_text(), yaml.CSafeLoader)
    [version] = document["spec"]["versions"]
    found = {"additionalProperties": True} | closed(version["schema"]["openAPIV3Schema"])
    validator = jsonschema.validators.validator_for(found)
    validator.check_schema(found)  # half a second, so once
    return validator(found)


def closed(schema):
    """Turn OpenAPI's dialect into JSON Schema; fields that a server would drop in silence are refused."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    changed = {name: closed(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        changed.setdefault("additionalProperties", False)
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        changed["type"] = [schema["type"], "null"]
    return changed


def container(manifest, part):
    [one] = manifest["spec"][part]["spec"]["containers"]
    return one


def environment_of(one):
    return {entry["name"]: entry["value"] for entry in one["env"]}


def after(arguments, option):
    return arguments[arguments.index(option) + 1]


def test_the_manifest_is_what_the_operator_takes(manifest, schema):
    cluster = {name: manifest[name] for name in ("apiVersion", "kind", "metadata", "spec")}
    assert cluster.keys() == manifest.keys()
    schema.validate({"spec": manifest["spec"]})


@pytest.mark.parametrize(
    "break_it",
    [
        lambda spec: spec["worker"]["spec"]["containers"][0].pop("name"),
        lambda spec: spec["worker"].update(replicas="many"),
        lambda spec: spec["scheduler"].pop("service"),
        lambda spec: spec["scheduler"]["spec"].update(serviceAcountName="typo"),
        lambda spec: spec["worker"]["spec"]["containers"][0]["resources"].update(limit={"cpu": 1}),
    ],
)
def test_the_schema_finds_mistakes(manifest, schema, break_it):
    spec = yaml.safe_load(yaml.safe_dump(manifest["spec"]))
    break_it(spec)
    with pytest.raises(jsonschema.ValidationError):
        schema.validate({"spec": spec})


def test_the_service_finds_the_scheduler_of_this_cluster(manifest):
    service, scheduler = manifest["spec"]["scheduler"]["service"], container(manifest, "scheduler")
    name = manifest["metadata"]["name"]
    assert service["selector"] == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    assert {port["name"]: port["port"] for port in service["ports"]} == {"tcp-comm": 8786, "http-dashboard": 8787}
    open_ports = {port["name"]: port["containerPort"] for port in scheduler["ports"]}
    assert {port["targetPort"] for port in service["ports"]} == set(open_ports)
    assert after(scheduler["args"], "--port") == str(open_ports["tcp-comm"])
    assert after(scheduler["args"], "--dashboard-address") == f":{open_ports['http-dashboard']}"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert service["type"] == "ClusterIP"


def test_programs_are_those_that_dask_still_has(manifest):
    assert container(manifest, "scheduler")["args"][:2] == ["dask", "scheduler"]
    assert container(manifest, "worker")["args"][:2] == ["dask", "worker"]
    assert after(container(manifest, "worker")["args"], "--name") == "$(DASK_WORKER_NAME)"
    commands = {entry.name: entry.module for entry in entry_points(group="dask_cli")}
    assert (commands["scheduler"], commands["worker"]) == (SCHEDULER, WORKER)


def test_workers_of_the_manifest_have_the_environment_of_workers_here(manifest):
    assert WORKER_ENVIRONMENT.items() <= environment_of(container(manifest, "worker")).items()
    assert environment_of(container(manifest, "scheduler")) == SCHEDULER_ENVIRONMENT


def test_a_worker_is_one_thread_on_one_core_with_memory_to_spare(manifest):
    worker = container(manifest, "worker")
    assert worker["resources"]["requests"] == worker["resources"]["limits"]
    assert worker["resources"]["limits"]["cpu"] == after(worker["args"], "--nthreads") == "1"
    memory = parse_bytes(worker["resources"]["limits"]["memory"] + "B")
    assert 0.8 * memory < parse_bytes(after(worker["args"], "--memory-limit")) < 0.95 * memory


def test_the_scheduler_has_what_it_asks_for_and_is_looked_after(manifest):
    scheduler = container(manifest, "scheduler")
    assert scheduler["resources"]["requests"] == scheduler["resources"]["limits"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert scheduler[probe]["httpGet"] == {"path": "/health", "port": "http-dashboard"}


def test_the_scheduler_stays_off_spot_machines_and_workers_may_be_there(manifest):
    scheduler = manifest["spec"]["scheduler"]["spec"]["affinity"]["nodeAffinity"]
    [term] = scheduler["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {(rule["key"], rule["operator"], *rule["values"]) for rule in term["matchExpressions"]} == {
        ("karpenter.sh/capacity-type", "NotIn", "spot"),
        ("eks.amazonaws.com/capacityType", "NotIn", "SPOT"),
    }
    assert "tolerations" not in manifest["spec"]["scheduler"]["spec"]
    workers = manifest["spec"]["worker"]["spec"]
    assert workers["tolerations"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in workers["affinity"]["nodeAffinity"]


def test_both_parts_have_an_account_one_image_and_no_keys(manifest):
    pods = [manifest["spec"][part]["spec"] for part in ("scheduler", "worker")]
    assert {pod["serviceAccountName"] for pod in pods} == {"sound-features"}
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods)
    assert len({container(manifest, part)["image"] for part in ("scheduler", "worker")}) == 1
    assert "AWS_" not in (ROOT / "cluster.yaml").read_text()


def test_all_examples_are_there():
    assert [path.stem for path in EXAMPLES] == sorted(CLASSES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_name_a_class_and_say_how_to_use_them(path):
    meant = read_cluster_file(str(path))
    assert isinstance(meant, ClusterClass)
    assert (meant.module, meant.name) == CLASSES[path.stem]
    text = path.read_text()
    assert f"--scheduler docs/clusters/{path.name}" in text
    assert text.startswith("# ")
    assert path.stem == "local" or "# Change: " in text
    for package in {meant.module.split(".")[0].replace("_", "-")} - {"distributed"}:
        assert re.search(rf"pip install '?{package}", text)


@pytest.mark.parametrize("path", [ROOT / "cluster.yaml", *EXAMPLES, ROOT / "Dockerfile"], ids=lambda path: path.name)
def test_no_file_has_secrets_or_opens_a_dashboard_to_all(path):
    text = path.read_text()
    assert not SECRET.search(text)
    if path.name != "cluster.yaml":  # in a pod it could not be used otherwise
        assert not ALL_ADDRESSES.search(text)


def arguments_of(*functions):
    return {name for function in functions for name in inspect.signature(function).parameters} - {"self", "kwargs"}


def test_the_arguments_of_ssh_are_those_that_it_takes():
    kwargs = read_cluster_file(str(ROOT / "docs/clusters/ssh.yaml")).kwargs
    assert kwargs.keys() <= arguments_of(SSHCluster)
    assert kwargs["scheduler_options"].keys() <= arguments_of(Scheduler, *(base.__init__ for base in Scheduler.__mro__))
    assert kwargs["scheduler_options"]["host"] == kwargs["hosts"][0]
    assert kwargs["worker_options"].keys() <= arguments_of(Nanny, Worker) | {"n_workers"}
    assert kwargs["worker_options"]["nthreads"] == 1
    assert "known_hosts" not in kwargs["connect_options"]


def test_the_arguments_of_local_are_those_that_it_takes():
    kwargs = read_cluster_file(str(ROOT / "docs/clusters/local.yaml")).kwargs
    assert kwargs.keys() <= arguments_of(LocalCluster, Nanny)


def test_workers_of_slurm_have_the_environment_of_workers_here():
    lines = read_cluster_file(str(ROOT / "docs/clusters/slurm.yaml")).kwargs["job_script_prologue"]
    exports = [word for line in lines for word in line.removeprefix("export ").split()]
    assert dict(word.split("=", 1) for word in exports) == WORKER_ENVIRONMENT


def test_a_new_cluster_of_a_gateway_has_the_environment_of_workers_here():
    kwargs = read_cluster_file(str(ROOT / "docs/clusters/gateway.yaml")).kwargs
    assert kwargs["environment"] == WORKER_ENVIRONMENT | SCHEDULER_ENVIRONMENT


def test_the_local_example_runs_the_job(tmp_path):
    write_machines(tmp_path / "raw", 8)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "here", "--quiet") == 0
    example = ROOT / "docs/clusters/local.yaml"
    done = featurize_from_here(tmp_path / "raw", tmp_path / "there", "--scheduler", example, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "dashboard http://127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr
    assert_same_bytes(tmp_path / "here", tmp_path / "there")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{module: distributed, class: SSHClustr}", "distributed has no class SSHClustr; did you mean SSHCluster?"),
        ("{module: os, class: getcwd}", "os.getcwd is not a class of Dask clusters"),
        ("{module: dask, class: config}", "dask.config is not a class of Dask clusters"),
        ("{module: no_such.package, class: Cluster}", "no_such is not installed: pip install 'no-such'"),
        ("{module: dask_jobque, class: Cluster}", "dask_jobque is not installed; did you mean dask_jobqueue?"),
        (
            "{module: distributed.depoly, class: Cluster}",
            "distributed has no module distributed.depoly; did you mean deploy?",
        ),
        (
            "{module: distributed.xyz, class: Cluster}",
            "distributed has no module distributed.xyz; the documentation of distributed names them",
        ),
        (
            "{module: distributed, class: SpecCluster, kwargs: {wrkers: {}, workers: {}}}",
            "SpecCluster does not take wrkers; its kwargs may be workers, scheduler, ",
        ),
        (
            "{module: distributed, class: LocalCluster, kwargs: {n_wrkers: 2, host: 127.0.0.1}}",
            "LocalCluster does not take these kwargs: Server.__init__() got an unexpected keyword argument 'n_wrkers'",
        ),
    ],
)
def test_a_cluster_file_that_names_no_class_or_wrong_arguments_is_wrong_usage(tmp_path, capfd, text, message):
    write_machines(tmp_path / "raw", 4)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "table", "--scheduler", path) == 2
    said = capfd.readouterr().err
    assert said.startswith(f"featurize: {path}: {message}")
    assert said.count("\n") == 1


def test_a_cluster_that_cannot_be_started_is_named_with_the_reason(tmp_path, capfd):
    write_machines(tmp_path / "raw", 4)
    path = tmp_path / "mine.yaml"
    path.write_text("{module: distributed, class: SSHCluster}")
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "table", "--scheduler", path) == 1
    said = capfd.readouterr().err
    assert said.startswith(f"featurize: {path}: the cluster cannot be started: `hosts` must be a non empty list")
    assert "Traceback" not in said


def test_where_there_is_no_kubernetes_the_manifest_says_so(tmp_path):
    write_machines(tmp_path / "raw", 4)
    variables = {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    done = featurize_from_here(tmp_path / "raw", tmp_path / "table", "--scheduler", ROOT / "cluster.yaml", **variables)
    assert done.returncode == 1, done.stderr
    assert "cluster.yaml: the cluster cannot be started: " in done.stderr
    assert "Traceback" not in done.stderr


def instructions():
    """Return the instructions of the Dockerfile, each with what it is given."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split()[1:]) for line in joined.splitlines() if line.strip()]


def test_all_that_the_image_copies_is_there_and_sent_to_its_builder():
    copied = {
        word
        for name, words in instructions()
        if name == "COPY" and not words[0].startswith("--from")
        for word in words[:-1]
    }
    assert copied >= {"constraints.txt", "pyproject.toml", "mimii", "jobs"}
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert copied == {line[1:] for line in ignored if line.startswith("!")}


def test_the_image_copies_all_that_installing_the_project_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert needed <= {word for name, words in instructions() if name == "COPY" for word in words}


def test_the_image_has_the_versions_of_constraints_txt_checked_by_hash():
    runs = [" ".join(words) for name, words in instructions() if name == "RUN"]
    versions, project = [run for run in runs if "pip install" in run]
    assert "--require-hashes --requirement constraints.txt" in versions
    assert "--no-deps --no-build-isolation ." in project


def test_the_image_is_small_runs_without_privileges_and_takes_python_as_an_argument():
    given = instructions()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [[python]] = [words for name, words in given if name == "ARG"]
    assert python.split("=")[1] in project["requires-python"]
    assert {words[0] for name, words in given if name == "FROM"} == {"python:${PYTHON}-slim"}
    assert [words for name, words in given if name == "USER"] == [["1000"]]
    assert not [name for name, _ in given if name in {"EXPOSE", "ENTRYPOINT", "ADD"}]
    assert not re.search(r"https?://", (ROOT / "Dockerfile").read_text())


def test_the_image_has_the_environment_of_workers():
    [words] = [words for name, words in instructions() if name == "ENV"]
    assert (WORKER_ENVIRONMENT | SCHEDULER_ENVIRONMENT).items() <= dict(word.split("=", 1) for word in words).items()


def test_the_image_answers_to_the_old_names_of_dasks_programs():
    [run] = [" ".join(words) for name, words in instructions() if name == "RUN" and "useradd" in words]
    assert "for part in scheduler worker;" in run
    assert 'exec dask %s "$@"' in run
    assert '"/usr/local/bin/dask-$part"' in run


IN_THREADS = {
    "n_workers": 1,
    "processes": False,
    "protocol": "tcp://",
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
}
STUBBORN = """
from distributed import LocalCluster


class Stubborn(LocalCluster):
    def close(self, timeout=None):
        super().close(timeout)
        raise RuntimeError("machine 7 is still there")
"""


def test_a_cluster_that_does_not_stop_is_reported_after_the_work(tmp_path, monkeypatch):
    write_machines(tmp_path / "raw", 4)
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"module": "stubborn", "class": "Stubborn", "kwargs": IN_THREADS}))
    monkeypatch.syspath_prepend(str(tmp_path))
    done = featurize_from_here(tmp_path / "raw", tmp_path / "table", "--scheduler", path)
    assert done.returncode == 0, done.stderr
    assert f"WARNING: {path}: the cluster was not stopped; look whether any of it still runs: machine 7" in done.stderr
    assert "Traceback" not in done.stderr


def write_class(folder, code, name, **kwargs):
    """Write a class of clusters, and a cluster file that names it; return the file and the environment of the job."""
    (folder / "of_tests.py").write_text(code)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"module": "of_tests", "class": name, "kwargs": kwargs}))
    return path, {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}


CHOOSY = """
from distributed import LocalCluster, Scheduler, SpecCluster, Worker
from distributed.deploy.spec import ProcessInterface


class Job(ProcessInterface):
    def __init__(self, scheduler, name):
        super().__init__(scheduler, name)
        self.scheduler, self.name = scheduler, name

    async def start(self):
        if self.name > 0:
            raise RuntimeError("Exit code: 1\\nstderr:\\nsubmit: the queue is full\\nsubmit: job not taken\\n")
        self.worker = await Worker(self.scheduler, nthreads=1, host="127.0.0.1", dashboard=False)
        await super().start()

    async def close(self):
        if self.name == 0:
            await self.worker.close()
        await super().close()


class Choosy(SpecCluster):
    def __init__(self):
        where = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        super().__init__(scheduler={"cls": Scheduler, "options": where}, worker={"cls": Job})

    @classmethod
    def make(cls):
        return cls()
"""


def test_workers_that_are_refused_are_said_and_the_others_work(tmp_path, monkeypatch):
    write_machines(tmp_path / "raw", 4)
    path, _ = write_class(tmp_path, CHOOSY, "Choosy.make")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = featurize_from_here(tmp_path / "raw", tmp_path / "table", "--scheduler", path, "--workers", 3)
    assert done.returncode == 0, done.stderr
    why = "submit: the queue is full; submit: job not taken"
    assert f"WARNING: {path}: 2 of 3 workers cannot be started: {why}\n" in done.stderr
    assert "shard on 1 worker" in done.stderr
    assert "Traceback" not in done.stderr
    assert "was not stopped" not in done.stderr


SLOW = """
import threading
from pathlib import Path

from mimii.engine import interrupts

interrupts._SECONDS_TO_START = 0.1


class Slow:
    def __init__(self, begun):
        Path(begun).touch()
        threading.Event().wait()
"""


def test_an_interrupt_ends_the_start_of_a_cluster_that_takes_long(tmp_path):
    write_machines(tmp_path / "raw", 4)
    path, variables = write_class(tmp_path, SLOW, "Slow", begun=str(tmp_path / "begun"))
    whole = ("jobs.featurize", tmp_path / "raw", "--output", tmp_path / "table", "--scheduler", path)
    with running(start(tmp_path / "job.log", *whole, **variables)) as job:
        wait_for((tmp_path / "begun").exists, "it starts")
        job.process.send_signal(signal.SIGINT)
        assert job.process.wait() == 130, job.text()
    assert f"{path}: the cluster was still starting; look whether any of it still runs" in job.text()
    assert "interrupted. Finished work is kept" in job.text()
    assert "Traceback" not in job.text()


GATEWAY = """
import signal
from distributed import LocalCluster, Security

signal.signal(signal.SIGINT, lambda *_: print("taken over", flush=True))  # as dask-jobqueue does


class GatewayLikeSecurity(Security):
    def __init__(self):
        pass

    def get_connection_args(self, role):
        return {}


class GatewayLike(LocalCluster):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.security = GatewayLikeSecurity()

    def close(self):
        super().close()
"""


def test_a_cluster_of_another_kind_is_used_closed_and_takes_no_signal_over(tmp_path):
    write_machines(tmp_path / "raw", 4)
    (tmp_path / "gateway_like.py").write_text(GATEWAY)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"module": "gateway_like", "class": "GatewayLike", "kwargs": IN_THREADS}))
    variables = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = featurize(tmp_path / "raw", tmp_path / "table", "--scheduler", path, **variables)
    assert done.returncode == 0, done.stderr
    assert "was not stopped" not in done.stderr


def test_a_module_that_is_imported_for_its_class_does_not_take_signals_over(tmp_path, monkeypatch):
    (tmp_path / "takes_over.py").write_text(
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); LOADED = True"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = signal.getsignal(signal.SIGINT)
    assert elsewhere._import("takes_over").LOADED
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import json\njson.nothing",
            "broken cannot be imported: AttributeError: module 'json' has no attribute 'nothing'",
        ),
        (
            "from json import nothing",
            "broken cannot be imported: ImportError: cannot import name 'nothing' from 'json'",
        ),
        ("def", "broken cannot be imported: SyntaxError: invalid syntax"),
        ("Other = 1", "broken has no class Cluster"),
    ],
)
def test_a_module_that_cannot_be_imported_is_said_with_the_reason(tmp_path, monkeypatch, code, said):
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    path = tmp_path / "cluster.yaml"
    path.write_text("{module: broken, class: Cluster}")
    with pytest.raises(SchedulerError) as raised:
        elsewhere.check_cluster_file(str(path))
    assert str(raised.value).startswith(f"{path}: {said}")
    assert "\n" not in str(raised.value)


def test_a_type_error_in_the_midst_of_a_start_is_none_of_the_kwargs(tmp_path, monkeypatch):
    (tmp_path / "adds.py").write_text("def Cluster(**_):\n    return 1 + 'a'")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "cluster.yaml"
    path.write_text("{module: adds, class: Cluster}")
    with pytest.raises(WorkError, match="the cluster cannot be started: unsupported operand"), ExitStack() as stack:
        elsewhere.start_elsewhere(str(path), Where(str(path)), stack)
