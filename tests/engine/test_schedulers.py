"""What --scheduler may be: distinguished without starting anything; all else is refused in words."""

import argparse
import json
import socket
import ssl
import threading

import pytest

from jobs.featurize import make_parser
from jobs.options import scheduler as scheduler_option
from jobs.options import scheduler_of
from mimii.engine import schedulers
from mimii.engine.schedulers import (
    HERE,
    TASKS_FAR_AWAY,
    ClusterClass,
    Manifest,
    SchedulerError,
    Where,
    check_scheduler,
    default_workers,
    find_address,
    fit_to_tasks,
    is_cluster_file,
    read_cluster_file,
    speaks_tls,
)
from tests.helpers.certificates import write_certificates
from tests.helpers.commands import featurize_here
from tests.helpers.recordings import write_machines

MANIFEST = "{apiVersion: kubernetes.dask.org/v1, kind: DaskCluster, metadata: {name: sounds}, spec: {worker: {}}}"


def write(path, text):
    path.write_text(text)
    return str(path)


def where(*arguments):
    return scheduler_of(make_parser().parse_args([str(argument) for argument in arguments]))


@pytest.mark.parametrize(
    "scheduler", [*HERE, "tcp://10.0.0.1:8786", "tls://host.example:8786", "tcp://[::1]:8786", "any/scheduler.json"]
)
def test_schedulers_that_may_be_meant_are_taken_as_they_are(scheduler):
    assert check_scheduler(scheduler) == scheduler


@pytest.mark.parametrize(
    "scheduler",
    [
        "",
        "Local",
        "processes",
        "8",
        "10.0.0.1:8786",
        "tcp://10.0.0.1",
        "tcp://:8786",
        "tcp://host:",
        "tcp://host:port",
        "tcp://host:0",
        "tcp://host:65536",
        "http://host:8787",
        "udp://host:8786",
        "tcp:/host:8786",
        "cluster.toml",
    ],
)
def test_other_schedulers_are_refused_with_all_that_may_be(scheduler):
    with pytest.raises(SchedulerError) as raised:
        check_scheduler(scheduler)
    message = str(raised.value)
    assert message.startswith(repr(scheduler))
    assert all(form in message for form in (*HERE, "tcp://HOST:PORT", "tls://", "*.json", "env", "*.yaml"))


def test_env_is_the_address_in_the_environment(monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tls://10.0.0.1:8786")
    assert check_scheduler("env") == "tls://10.0.0.1:8786"


@pytest.mark.parametrize("value", [None, "", "env", "10.0.0.1:8786", "local", "sync", "inproc://a"])
def test_env_without_an_address_says_what_to_set(monkeypatch, value):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", value)
    with pytest.raises(SchedulerError, match=r"DASK_SCHEDULER_ADDRESS.*|tcp://HOST:PORT"):
        check_scheduler("env")


def test_a_manifest_of_the_operator_is_known_by_its_kind(tmp_path):
    meant = read_cluster_file(write(tmp_path / "cluster.yaml", MANIFEST))
    assert isinstance(meant, Manifest)
    assert meant.document["metadata"] == {"name": "sounds"}


def test_a_class_and_its_arguments_are_known_by_their_keys(tmp_path):
    text = "module: distributed\nclass: SSHCluster\nkwargs:\n  hosts: [a, b]\n  connect_options: {port: 2222}\n"
    meant = read_cluster_file(write(tmp_path / "ssh.yml", text))
    kwargs = {"hosts": ["a", "b"], "connect_options": {"port": 2222}}
    assert meant == ClusterClass("distributed", "SSHCluster", kwargs)
    bare = read_cluster_file(write(tmp_path / "bare.yaml", "module: distributed\nclass: LocalCluster\n"))
    assert bare == ClusterClass("distributed", "LocalCluster", {})


ANOTHER = "it is another manifest than a DaskCluster of kubernetes.dask.org/v1 with a name"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "it is empty"),
        ("just text", "it is a single value, not a mapping of keys to values"),
        ("[1, 2]", "it is a list, not a mapping of keys to values"),
        ("module: distributed", "it has no 'class'"),
        ("class: SSHCluster", "it has no 'module'"),
        ("module: distributed\nclass: 3", "'class' must be a name, not 3"),
        (
            "module: distributed\nclass: SSHCluster\nkwargs: [a, b]",
            "'kwargs' must be a mapping of names to values, not ['a', 'b']",
        ),
        (
            "module: distributed\nclass: SSHCluster\nhosts: [a, b]",
            "'hosts' means nothing there; arguments of the class go below 'kwargs'",
        ),
        ("kind: DaskCluster\nmetadata: {name: sounds}", ANOTHER),
        (MANIFEST.replace("DaskCluster", "DaskWorkerGroup"), ANOTHER),
        (MANIFEST.replace("v1", "v2"), ANOTHER),
        (MANIFEST.replace("name: sounds", "namespace: sounds"), ANOTHER),
        (f"{MANIFEST}\n---\n{MANIFEST}", "it holds 2 documents"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_what_is_wrong_and_both_shapes(tmp_path, text, wrong):
    path = write(tmp_path / "cluster.yaml", text)
    with pytest.raises(SchedulerError) as raised:
        read_cluster_file(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: does not say how to start a cluster: {wrong}. It must be ")
    assert "kind: DaskCluster" in message
    assert "class: SSHCluster" in message


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", b"a: !!python/object/apply:os.getpid []"])
def test_a_file_that_is_no_yaml_is_refused_and_runs_nothing(tmp_path, content):
    path = tmp_path / "cluster.yaml"
    path.write_bytes(content)
    with pytest.raises(SchedulerError, match="is no YAML"):
        check_scheduler(str(path))


def test_a_cluster_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(SchedulerError, match=r"nowhere\.yaml: cannot be read: No such file"):
        check_scheduler(str(tmp_path / "nowhere.yaml"))


def test_cluster_files_are_known_by_their_ending():
    assert [is_cluster_file(name) for name in ("a.yaml", "b.yml", "c.json", "local", "yaml")] == [
        True,
        True,
        *[False] * 3,
    ]


def test_the_address_is_that_in_the_scheduler_file(tmp_path):
    path = write(tmp_path / "scheduler.json", json.dumps({"type": "Scheduler", "address": "tcp://10.0.0.1:8786"}))
    assert find_address(path) == "tcp://10.0.0.1:8786"
    assert find_address("tls://10.0.0.2:1") == "tls://10.0.0.2:1"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"address"'])
def test_a_scheduler_file_without_an_address_is_named(tmp_path, text):
    with pytest.raises(SchedulerError, match=r"scheduler\.json: no scheduler file: it names no address"):
        find_address(write(tmp_path / "scheduler.json", text))


def test_a_scheduler_file_may_be_missing_as_yet(tmp_path):
    path = str(tmp_path / "scheduler.json")
    assert check_scheduler(path) == path
    with pytest.raises(FileNotFoundError):
        find_address(path)


def test_the_option_refuses_what_cannot_be_meant():
    with pytest.raises(argparse.ArgumentTypeError, match="'nonsense': must be local, threads"):
        scheduler_option("nonsense")
    assert scheduler_option("env-is-not-this.json") == "env-is-not-this.json"


def test_no_more_workers_are_started_here_than_there_are_tasks():
    assert fit_to_tasks(where("--workers", 8), 3, is_remote=False) == Where("local", 3)
    assert fit_to_tasks(where(), 1000, is_remote=False).n_workers == default_workers()
    assert fit_to_tasks(where("--scheduler", "threads", "--workers", 2), 9, is_remote=False) == Where("threads", 2)


def test_a_worker_has_more_tasks_under_way_where_they_wait_for_s3():
    assert fit_to_tasks(where("--workers", 2), 9, is_remote=True) == Where("local", 2, TASKS_FAR_AWAY)


def test_fewer_workers_are_started_where_each_has_several_tasks_that_fetch_ahead(monkeypatch):
    monkeypatch.setattr(schedulers, "granted_cpus", lambda: 8)
    monkeypatch.setattr(schedulers, "granted_memory", lambda: 1 << 30)
    assert fit_to_tasks(where(), 9, is_remote=False).n_workers == 6
    assert fit_to_tasks(where(), 9, is_remote=True).n_workers == 2
    assert fit_to_tasks(where("--workers", 4), 9, is_remote=True).n_workers == 4


def test_of_workers_elsewhere_no_number_is_asked_for_unless_it_is_given(tmp_path):
    path = write(tmp_path / "cluster.yaml", MANIFEST)
    for scheduler in ("tcp://a:1", path):
        assert fit_to_tasks(where("--scheduler", scheduler), 3, is_remote=False).n_workers is None
    assert fit_to_tasks(where("--scheduler", path, "--workers", 50), 3, is_remote=False).n_workers == 50


def test_how_many_workers_a_cluster_file_starts_is_said_by_the_file_unless_by_the_option(tmp_path):
    path = write(tmp_path / "cluster.yaml", MANIFEST)
    assert where("--scheduler", path).n_workers is None
    assert where("--scheduler", path, "--workers", 50).n_workers == 50
    assert where("--scheduler", path, "--adapt", 2, 90).adapt == (2, 90)


def test_fewest_workers_are_at_most_the_most():
    with pytest.raises(SchedulerError, match="--adapt 3 2: MIN must be at most MAX"):
        where("--adapt", "3", "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheduler", "nonsense"], "--scheduler: 'nonsense': must be local"),
        (["--adapt", "0", "2"], "--adapt: must be a whole number of at least 1, not '0'"),
        (["--timeout", "soon"], "--timeout: must be a number of seconds above 0, not 'soon'"),
        (["--timeout", "inf"], "--timeout: must be a number of seconds above 0, not 'inf'"),
    ],
)
def test_wrong_values_end_with_status_2_and_the_option(capsys, arguments, message):
    assert featurize_here(*arguments) == 2
    assert message in capsys.readouterr().err


def test_options_that_contradict_each_other_end_with_status_2_before_anything_is_read(tmp_path, capsys):
    output = tmp_path / "table"
    assert featurize_here(tmp_path / "no recordings", "--output", output, "--adapt", 1, 2) == 2
    assert "--adapt: workers are started and stopped with --scheduler local or" in capsys.readouterr().err
    assert not output.exists()


@pytest.fixture
def greeter():
    """Return what starts a server that answers one connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(answer):
            threading.Thread(target=answer, args=(listener,), daemon=True).start()
            return f"tcp://127.0.0.1:{listener.getsockname()[1]}"

        yield serve


def test_a_server_that_encrypts_differs_from_one_that_does_not(tmp_path, greeter):
    options = write_certificates(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["--tls-cert"], options["--tls-key"])

    def answer(listener):
        with context.wrap_socket(listener.accept()[0], server_side=True):
            pass
        with listener.accept()[0] as plain:
            plain.sendall(b"\x08\0\0\0\0\0\0\0I do not encrypt")

    address = greeter(answer)
    assert speaks_tls(address)
    assert not speaks_tls(address)


def test_a_server_that_wants_a_certificate_encrypts_too(tmp_path, greeter):
    options = write_certificates(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(options["--tls-cert"], options["--tls-key"])
    context.load_verify_locations(options["--tls-ca-file"])
    context.verify_mode = ssl.CERT_REQUIRED

    def answer(listener):
        with pytest.raises(ssl.SSLError), context.wrap_socket(listener.accept()[0], server_side=True):
            pass

    assert speaks_tls(greeter(answer))


def test_where_no_server_listens_the_question_fails():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        speaks_tls(f"tcp://127.0.0.1:{port}")


def test_sync_does_not_ask_for_any_cluster(tmp_path):
    write_machines(tmp_path / "raw", 4)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "table") == 0


def test_a_scheduler_file_of_a_scheduler_within_a_process_is_refused(tmp_path):
    (tmp_path / "scheduler.json").write_text('{"address": "inproc://10.0.0.1/77/1"}')
    with pytest.raises(
        SchedulerError, match=r"inproc://10\.0\.0\.1/77/1 is no address of a scheduler for this machine"
    ):
        find_address(str(tmp_path / "scheduler.json"))
