"""The notebooks: run from top to bottom, and what is in them."""

import ast
import base64
import importlib
import io
import json
import re
from pathlib import Path

import boto3
import numpy as np
import pytest
from botocore.stub import Stubber
from PIL import Image

from tests import notebooks
from tests.notebooks import METADATA, NOTEBOOKS, code_cells, read, run_notebook

MOST_BYTES = 1_500_000
MACHINE_PATHS = re.compile(r"/(home|tmp|root|work|Users|private|var|opt|usr)/|[A-Z]:\\\\|127\.0\.0\.1|localhost")
PROJECT, MODEL = (
    f"arn:aws:rekognition:eu-west-1:123456789012:project/machines/{rest}" for rest in ("1", "version/f/2")
)


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed(notebook):
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def pictures(notebook):
    found = [output.data for output in outputs(notebook) if "data" in output]
    return [Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) for data in found if "image/png" in data]


def kinds(notebook):
    """Return the kinds of output of each cell; values may differ."""
    return [[tuple(sorted(output.get("data", {}))) for output in cell.outputs] for cell in code_cells(notebook)]


def assert_quiet(notebook):
    """Nothing on the standard error: no warning."""
    streams = [output for output in outputs(notebook) if output.output_type == "stream"]
    assert [output.text for output in streams if output.name == "stderr"] == []


def test_there_are_three():
    assert NOTEBOOKS == ["1_data_exploration", "2_detection", "3_vision"]


SHORTER = {
    "2_detection": {"epochs=50": "epochs=2", '"--clips", "96"': '"--clips", "64", "--seconds", "4"'},
    "3_vision": {'"--clips", "128"': '"--clips", "64", "--seconds", "4"'},
}
"""Learning and making recordings take most of the time of a notebook; what is drawn of it is the same."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom_to_the_same_kinds_of_output(name, tmp_path):
    done = run_notebook(name, tmp_path, instead=SHORTER.get(name, {}))
    assert_quiet(done)
    assert kinds(done) == kinds(read(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1_data_exploration"])
def test_a_notebook_runs_on_real_recordings(name, real_recordings, tmp_path):
    done = run_notebook(name, tmp_path, real_recordings)
    assert_quiet(done)
    assert "8 channels of 160,000 samples at 16,000 Hz" in printed(done)
    assert kinds(done) == kinds(read(name))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_all_cells_were_run_in_order_and_what_came_out_is_kept(name):
    cells = code_cells(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs(read(name)) if output.output_type == "error"]
    assert len(pictures(read(name))) >= 4
    assert_quiet(read(name))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_small_and_names_no_machine(name):
    data = (notebooks.FOLDER / f"{name}.ipynb").read_bytes()
    assert len(data) < MOST_BYTES
    document = json.loads(data)
    assert document["metadata"] == METADATA
    assert {key for cell in document["cells"] for key in cell["metadata"]} == set()
    without_pictures = re.sub(r'"image/png": "[^"]*"|base64,[^\']*', "", data.decode())
    assert MACHINE_PATHS.search(without_pictures) is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_pictures_are_opaque_on_white_so_that_they_can_be_read_on_dark_pages(name):
    for picture in pictures(read(name)):
        pixels = np.asarray(picture.convert("RGBA"))
        assert pixels[..., 3].min() == 255
        assert pixels[0, 0].tolist() == [255] * 4


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_one_variable_chooses_the_recordings(name):
    assert code_cells(read(name))[0].source.startswith(notebooks.SWITCH)
    assert sum("RECORDINGS = " in cell.source for cell in code_cells(read(name))) == 2


def imported(notebook):
    """Yield each module that a notebook imports, with the names that it takes from it."""
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                yield node.module, [alias.name for alias in node.names]
            elif isinstance(node, ast.Import):
                yield from ((alias.name, []) for alias in node.names)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_uses_the_library_as_users_do_by_public_names(name):
    imports = list(imported(read(name)))
    assert ("mimii", []) in imports
    assert "subprocess" not in dict(imports)
    for module, names in imports:
        if module.startswith("mimii"):
            assert module.count(".") <= 1
            assert set(names) <= set(importlib.import_module(module).__all__)


def test_sound_is_there_to_listen_to_and_short():
    players = [
        output.data["text/html"]
        for output in outputs(read("1_data_exploration"))
        if "text/html" in output.get("data", {})
    ]
    sounds = [base64.b64decode(sound) for sound in re.findall(r"audio/flac;base64,([^']+)", "".join(players))]
    assert [sound[:4] for sound in sounds] == [b"fLaC"] * 2
    assert all(len(sound) < 200_000 for sound in sounds)


def test_detection_and_vision_end_with_what_was_found():
    assert "least normal at 40.2 s: 3072 Hz" in printed(read("2_detection"))
    assert "tested on 24 others" in printed(read("3_vision"))


def test_what_is_not_installed_or_not_switched_on_is_skipped_with_a_message():
    assert printed(read("2_detection")).count("skipped: ") == 2
    assert "skipped: BUCKET is empty" in printed(read("3_vision"))


def names_of(notebook, *wanted):
    """Run those code cells alone that define some functions; return all names."""
    names = {}
    for cell in code_cells(read(notebook)):
        if any(f"def {name}(" in cell.source for name in wanted):
            exec(cell.source, names)  # noqa: S102  the project's own notebook
    return names


@pytest.fixture
def rekognition():
    """Return a client without a network, and its stub: what it is to be asked, and answers, in order."""
    client = boto3.client("rekognition", "eu-west-1", aws_access_key_id="no", aws_secret_access_key="no")  # noqa: S106
    with Stubber(client) as stub:
        yield client, stub
        stub.assert_no_pending_responses()


def data_set(kind, manifest, status):
    """Return what is asked and answered when a manifest is imported."""
    source = {"GroundTruthManifest": {"S3Object": {"Bucket": "sounds", "Name": manifest}}}
    arn = f"arn:aws:rekognition:eu-west-1:123456789012:project/machines/dataset/{kind.lower()}/3"
    asked = {"ProjectArn": PROJECT, "DatasetType": kind, "DatasetSource": source}
    about = {"Status": status, "StatusMessage": f"{kind}: what is wrong"}
    return [
        ("create_dataset", {"DatasetArn": arn}, asked),
        ("describe_dataset", {"DatasetDescription": about}, {"DatasetArn": arn}),
    ]


def versions(status):
    asked = {"ProjectArn": PROJECT, "VersionNames": ["first"]}
    return ("describe_project_versions", {"ProjectVersionDescriptions": [{"Status": status}]}, asked)


def test_rekognition_is_asked_in_the_right_order_with_parameters_that_it_takes(rekognition):
    client, stub = rekognition
    calls = [("create_project", {"ProjectArn": PROJECT}, {"ProjectName": "machines"})]
    calls += data_set("TRAIN", "images/manifests/train.manifest", "CREATE_COMPLETE")
    calls += data_set("TEST", "images/manifests/test.manifest", "CREATE_COMPLETE")
    output = {"S3Bucket": "sounds", "S3KeyPrefix": "images/training"}
    asked = {"ProjectArn": PROJECT, "VersionName": "first", "OutputConfig": output}
    calls += [("create_project_version", {"ProjectVersionArn": MODEL}, asked), versions("TRAINING_COMPLETED")]
    for call in calls:
        stub.add_response(*call)
    train_model = names_of("3_vision", "train_model")["train_model"]
    train_model.__globals__["time"] = None  # nothing is waited for
    assert train_model(client, "sounds", "images", "machines") == (PROJECT, MODEL)


def test_a_manifest_that_is_refused_says_why(rekognition):
    client, stub = rekognition
    for call in data_set("TRAIN", "images/manifests/train.manifest", "CREATE_FAILED"):
        stub.add_response(*call)
    create_data_set = names_of("3_vision", "create_data_set")["create_data_set"]
    with pytest.raises(RuntimeError, match="TRAIN: what is wrong"):
        create_data_set(client, PROJECT, "TRAIN", "sounds", "images/manifests/train.manifest")


@pytest.mark.parametrize("works", [True, False])
def test_a_model_that_was_started_is_stopped_also_after_an_error(works, rekognition):
    client, stub = rekognition
    stub.add_response(
        "start_project_version", {"Status": "STARTING"}, {"ProjectVersionArn": MODEL, "MinInferenceUnits": 1}
    )
    stub.add_response(*versions("RUNNING"))
    labels = [{"Name": "normal", "Confidence": 12.5}, {"Name": "abnormal", "Confidence": 87.5}]
    asked = {"ProjectVersionArn": MODEL, "Image": {"Bytes": b"PNG"}}
    if works:
        stub.add_response("detect_custom_labels", {"CustomLabels": labels}, asked)
    else:
        stub.add_client_error("detect_custom_labels", "ThrottlingException", expected_params=asked)
    stub.add_response("stop_project_version", {"Status": "STOPPING"}, {"ProjectVersionArn": MODEL})
    classify = names_of("3_vision", "classify")["classify"]
    if works:
        assert classify(client, PROJECT, MODEL, [b"PNG"]) == ["abnormal"]
    else:
        with pytest.raises(client.exceptions.ClientError):
            classify(client, PROJECT, MODEL, [b"PNG"])


@pytest.mark.parametrize(
    ("bucket", "variables", "obstacle"),
    [
        ("", {}, "BUCKET is empty"),
        ("sounds", {}, "there are no AWS credentials"),
        ("sounds", {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "something"}, ""),
    ],
)
def test_rekognition_is_off_without_a_bucket_and_credentials(bucket, variables, obstacle, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    names = {"importlib": __import__("importlib.util")}
    [cell] = [cell for cell in code_cells(read("3_vision")) if "def find_obstacle(" in cell.source]
    exec(cell.source.replace('BUCKET = ""', f"BUCKET = {bucket!r}"), names)  # noqa: S102  the project's own notebook
    assert names["find_obstacle"]() == obstacle


def test_links_between_notebooks_lead_somewhere():
    for name in NOTEBOOKS:
        text = "".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (Path(notebooks.FOLDER) / link).exists(), link
