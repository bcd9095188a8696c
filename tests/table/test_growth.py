"""Tables that grow: whatever comes, goes, changes or is relabelled, in whatever order, and wherever a run is killed."""

import errno
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, example, given, settings

import mimii
from jobs.render import main as render_main
from mimii import features
from mimii.engine import StoreError, outputs
from mimii.recordings import headers
from mimii.table import digest_made, make, table
from mimii.verification import contents as contents_to_verify
from tests.helpers.archives import pack, wav
from tests.helpers.commands import assert_same_bytes, contents, featurize_here, open_table, replaced, shard_files
from tests.helpers.growth import (
    LENGTHS,
    SPEC,
    Factory,
    KilledError,
    check_against,
    drop_leases,
    dying_at,
    expected_rows,
    plan_of,
    update,
)

NAMES = st.sampled_from([f"{number:08d}" for number in range(7)])
CHANGES = st.one_of(
    st.tuples(st.just("write"), NAMES, st.integers(0, 2), st.sampled_from(LENGTHS)),
    st.tuples(st.just("delete"), NAMES),
)
STEPS = st.lists(
    st.tuples(st.lists(CHANGES, min_size=1, max_size=4), st.booleans(), st.one_of(st.none(), st.integers(0, 40))),
    min_size=1,
    max_size=5,
)


def apply_changes(factory, changes):
    for kind, name, *how in changes:
        if kind == "write":
            factory.write(name, 1000 * int(name) + how[0], how[1])
        elif name in factory.contents:
            factory.delete(name)


PUT_BACK = [
    ([("write", "00000002", 0, 4000)], False, None),
    ([("delete", "00000002")], False, None),
    ([("write", "00000000", 0, 4000)], False, 7),
]
"""Killed while it replaces a shard of which no row stays: of which version the clip is that was taken out, is lost."""


@pytest.mark.slow
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@example(steps=PUT_BACK)
@given(steps=STEPS)
def test_any_sequence_with_kills_leaves_the_bytes_of_the_same_sequence_undisturbed(steps):
    with tempfile.TemporaryDirectory() as scratch:
        factory = Factory(Path(scratch))
        disturbed, undisturbed = Path(scratch, "disturbed"), Path(scratch, "undisturbed")
        for changes, _, kill in steps:
            apply_changes(factory, changes)
            if not factory.contents and not disturbed.exists():
                continue
            if kill is not None:
                with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
                    dying_at(patch, kill)
                    update(factory, disturbed)
                drop_leases(disturbed)
            update(factory, disturbed)
            update(factory, undisturbed)
            assert_same_bytes(disturbed, undisturbed)
            check_against(factory, disturbed)


# Updates that come between the plan of another one and its work


@pytest.fixture
def factory(tmp_path):
    """Return a factory with five recordings, and a table of them."""
    factory = Factory(tmp_path / "factory")
    for number in range(5):
        factory.write(f"{number:08d}", number, 12_000)
    update(factory, tmp_path / "out")
    return factory


def interrupt_plan(monkeypatch, act, times=1):
    """Have something happen between the plan of an update and its work; return how often it was planned."""
    planned, original = [], make.plan_update

    def plan_update(*arguments, **how):
        planned.append(original(*arguments, **how))
        if len(planned) <= times:
            with monkeypatch.context() as patch:
                patch.setattr(make, "plan_update", original)
                act()
        return planned[-1]

    monkeypatch.setattr(make, "plan_update", plan_update)
    return planned


def only(factory, *names):
    """Plan these recordings alone."""
    clips = mimii.find_recordings(*(str(factory.path(name)) for name in names))
    return mimii.plan_table(clips, SPEC, split="stratified", shard_bytes=1 << 20)


def grow_by(factory, output, *names, prune=False):
    mimii.featurize(only(factory, *names), str(output), update=True, prune=prune)


def test_an_update_that_another_one_overtakes_is_planned_again(factory, tmp_path, monkeypatch):
    factory.write("00000005", 5, 12_000)
    factory.write("00000006", 6, 12_000)
    planned = interrupt_plan(monkeypatch, lambda: grow_by(factory, tmp_path / "out", "00000006"))
    grow_by(factory, tmp_path / "out", "00000005")
    assert len(planned) == 2
    check_against(factory, tmp_path / "out")


def test_a_table_that_comes_into_being_after_the_plan_grows(factory, tmp_path, monkeypatch):
    planned = interrupt_plan(monkeypatch, lambda: grow_by(factory, tmp_path / "new", "00000000", "00000001"))
    grow_by(factory, tmp_path / "new", "00000002", "00000003", "00000004")
    assert len(planned) == 2
    check_against(factory, tmp_path / "new")


def test_a_table_that_is_gone_after_the_plan_is_made_of_what_is_named(factory, tmp_path, monkeypatch):
    planned = interrupt_plan(monkeypatch, lambda: shutil.rmtree(tmp_path / "out"))
    grow_by(factory, tmp_path / "out", "00000002")
    assert len(planned) == 2
    assert [Path(str(path)).stem for path in open_table(tmp_path / "out").path.values] == ["00000002"]


def test_what_another_update_has_replaced_in_its_place_is_not_lost(factory, tmp_path, monkeypatch):
    """The table has the same fingerprint as before: only the records say that a clip has another version."""
    factory.write("00000006", 6, 12_000)

    def replace_one():
        factory.write("00000001", 77, 12_000)
        grow_by(factory, tmp_path / "out", "00000001")

    planned = interrupt_plan(monkeypatch, replace_one)
    grow_by(factory, tmp_path / "out", "00000006")
    assert len(planned) == 2
    check_against(factory, tmp_path / "out")


def interrupt_look(monkeypatch, act):
    """Have something happen between the moment an update lists the table and the moment it reads the records."""
    original = outputs.find_listed

    def find_listed(*arguments):
        monkeypatch.setattr(outputs, "find_listed", original)
        act()
        return original(*arguments)

    monkeypatch.setattr(outputs, "find_listed", find_listed)


@pytest.mark.parametrize("theirs", ["00000005", "00000006"])
def test_a_shard_that_another_update_has_just_written_is_not_taken_for_one_without_a_record(
    factory, tmp_path, monkeypatch, theirs
):
    factory.write("00000005", 5, 12_000)
    factory.write("00000006", 6, 12_000)
    interrupt_look(monkeypatch, lambda: grow_by(factory, tmp_path / "out", theirs))
    grow_by(factory, tmp_path / "out", "00000005")
    grow_by(factory, tmp_path / "out", "00000006")
    check_against(factory, tmp_path / "out")


@pytest.mark.parametrize("n_acts", [1, 3, 5, 8, 10, 13])
def test_an_update_of_others_after_one_that_was_killed_loses_nothing(factory, tmp_path, n_acts):
    """What the killed one has replaced stays replaced, or as it was; when it is run again, it finishes."""
    factory.write("00000001", 77, 12_000)
    factory.write("00000006", 6, 12_000)
    with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
        dying_at(patch, n_acts)
        grow_by(factory, tmp_path / "out", "00000001")
    drop_leases(tmp_path / "out")
    grow_by(factory, tmp_path / "out", "00000006")
    table = open_table(tmp_path / "out")
    assert set(table.status.values) == {"ok"}
    assert np.isfinite(table.features.values).all()
    grow_by(factory, tmp_path / "out", "00000001")
    check_against(factory, tmp_path / "out")


# What is refused


def test_prune_and_overwrite_have_to_fit_to_update(factory, tmp_path, capsys):
    for how in ({"prune": True}, {"update": True, "overwrite": True}):
        with pytest.raises(ValueError, match=r"prune needs update=True|use one of them"):
            mimii.featurize(only(factory, "00000001"), str(tmp_path / "out"), **how)
    before = contents(tmp_path / "out")
    for options, said in ((["--prune"], "--prune: needs --update"), (["--update", "--overwrite"], "use one of them")):
        assert featurize_here(factory.folder / "raw", "--output", tmp_path / "out", *options) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
    assert contents(tmp_path / "out") == before


def test_other_features_are_refused(factory, tmp_path, capsys):
    raw, before = factory.folder / "raw", contents(tmp_path / "out")
    factory.write("00000007", 7, 12_000)
    assert featurize_here(raw, "--output", tmp_path / "out", "--update", "--n-mels", 32) == 2
    wanted = f"{tmp_path}/out: its clips have other features (n_mels: 16 there, 32 now)"
    assert wanted in (said := capsys.readouterr().err)
    assert len(said.splitlines()) == 1
    assert contents(tmp_path / "out") == before


def test_a_table_of_an_earlier_format_is_read_and_refused(factory, tmp_path, capsys):
    group = tmp_path / "out" / "zarr.json"
    group.write_bytes(group.read_bytes().replace(b'"format": 3', b'"format": 2'))
    before = contents(tmp_path / "out")
    assert featurize_here(factory.folder / "raw", "--output", tmp_path / "out", "--update") == 2
    said = capsys.readouterr().err
    assert "made by an earlier version, in a format that cannot grow" in said
    assert "--overwrite" in said
    assert contents(tmp_path / "out") == before
    assert len(mimii.open_table(tmp_path / "out").path) == 5


def make_rows_otherwise(monkeypatch):
    """Have this be a version that makes rows in another way, though the format is the same."""
    for module in (table, contents_to_verify):
        monkeypatch.setattr(module, "digest_made", lambda *how: digest_made(*how)[::-1])


def test_rows_that_another_version_made_are_not_lost_where_not_all_recordings_are_named(factory, tmp_path, monkeypatch):
    """Where all are named, they are computed again."""
    factory.write("00000005", 5, 12_000)
    before = contents(tmp_path / "out")
    make_rows_otherwise(monkeypatch)
    with pytest.raises(StoreError, match=r"out/features/c\.0\.0: .* another version, .* 5 recordings .*--overwrite"):
        grow_by(factory, tmp_path / "out", "00000005")
    assert contents(tmp_path / "out") == before
    update(factory, tmp_path / "out")
    check_against(factory, tmp_path / "out")


@pytest.mark.slow
def test_rows_of_another_version_are_not_lost_in_a_table_that_was_stopped(tmp_path, monkeypatch):
    factory, output = Factory(tmp_path / "factory"), tmp_path / "out"
    for number in range(20):
        factory.write(f"{number:08d}", number, 90_000)
    n_acts = next(n for n in range(1, 100) if stopped_with_records(factory, output, n))
    assert n_acts
    before = contents(output)
    make_rows_otherwise(monkeypatch)
    factory.write("00000020", 20, 90_000)
    with pytest.raises(StoreError, match="another version"):
        grow_by(factory, output, "00000020")
    assert contents(output) == before


def stopped_with_records(factory, output, n_acts):
    """Make a table in a run that is killed after so many writes; say whether it has left the record of a shard."""
    shutil.rmtree(output, ignore_errors=True)
    stopped_at(n_acts, lambda: update(factory, output))
    drop_leases(output)
    return (output / "features/records/0.json").exists()


def test_why_clips_that_differ_cannot_be_named_is_logged(factory, tmp_path, caplog):
    (tmp_path / "out" / "label" / "c.0").unlink()
    with caplog.at_level(logging.INFO), pytest.raises(StoreError, match="not the 1 that are named now"):
        mimii.featurize(only(factory, "00000001"), str(tmp_path / "out"))
    assert f"{tmp_path}/out: a column is damaged or missing: label/c.0 is missing" in caplog.text


def test_an_album_does_not_grow_into_a_table(factory, tmp_path, capsys):
    album = tmp_path / "images"
    assert render_main(["--scheduler", "sync", str(factory.folder / "raw"), "--output", str(album)]) == 0
    before = contents(album)
    assert featurize_here(factory.folder / "raw", "--output", album, "--update") == 2
    assert "what is there is no table of features; it is left alone" in capsys.readouterr().err
    assert contents(album) == before


# Labels and splits


def read_splits(output):
    table = open_table(output)
    return {Path(str(path)).stem: str(split) for path, split in zip(table.path.values, table.split.values, strict=True)}


def test_a_split_stays_whatever_else_comes_also_that_of_abnormal_clips(factory, tmp_path):
    """The policy stratified trains on abnormal clips, too."""
    before = read_splits(tmp_path / "out")
    assert before["00000000"] == before["00000004"] == "train", "these are abnormal"
    factory.write("00000006", 6, 12_000)
    update(factory, tmp_path / "out")
    assert {name: split for name, split in read_splits(tmp_path / "out").items() if name in before} == before


# Verification


@pytest.fixture
def grown(tmp_path):
    """Return a factory with a table of several shards, some of whose clips go over two; most recordings are gone."""
    factory = Factory(tmp_path / "factory")
    for number in range(20):
        factory.write(f"{number:08d}", number, 90_000)
    update(factory, tmp_path / "out")
    for number in range(19):
        factory.path(f"{number:08d}").unlink()
    return factory


PARTS = {"rows": ("features/", "row_clip/c.1"), "columns": ("label/", "status/c", "first_row/c", "mel_max/", "split/c")}
"""What is damaged; the other columns do as these."""


def shards_of_rows(output):
    return sorted(str(path.relative_to(output)) for path in (output / "features").glob("c.*"))


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def objects_of(output):
    return sorted(name for name in contents(output) if name != "zarr.json")


def test_an_update_that_cannot_read_a_column_names_it_and_what_makes_the_table_again(factory, tmp_path):
    damage(tmp_path / "out" / "path" / "c.0")
    factory.write("00000020", 20, 20_000)
    with pytest.raises(StoreError, match=r"damaged or missing: path: its checksum .* by --overwrite"):
        update(factory, tmp_path / "out")
    mimii.featurize(plan_of(factory), str(tmp_path / "out"), overwrite=True)
    assert mimii.verify(str(tmp_path / "out")).is_right


@pytest.mark.slow
@pytest.mark.parametrize("how", [damage, Path.unlink], ids=["damaged", "deleted"])
@pytest.mark.parametrize("folder", ["rows", "columns"])
def test_no_advice_makes_worse_what_cannot_be_computed_again(grown, tmp_path, how, folder):
    """After damage of any object the advice and an update leave all that is not damaged, or the update is refused."""
    whole = open_table(tmp_path / "out")
    victims = [name for name in objects_of(tmp_path / "out") if name.startswith(PARTS[folder])]
    assert len(shards_of_rows(tmp_path / "out")) == 2
    for victim in victims:
        output = tmp_path / "copy"
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(tmp_path / "out", output)
        how(output / victim)
        findings = mimii.verify(str(output)).findings
        assert findings, victim
        for finding in findings:
            (output / (finding.delete or "none")).unlink(missing_ok=True)
        try:
            grow_by(grown, output, "00000019")
        except StoreError as error:
            assert "damaged or missing" in str(error) or "no record is of this shard" in str(error)  # noqa: PT017
            assert is_not_made_again(victim), victim
            continue
        assert mimii.verify(str(output)).is_right, victim
        if victim not in shards_of_rows(tmp_path / "out"):
            xarray.testing.assert_equal(open_table(output), whole)


def is_not_made_again(name):
    """Say whether an object can be made again from recordings alone."""
    columns = ("path", "machine_type", "machine_id", "number", "snr_db", "label", "split", "n_rows", "status")
    is_column = name.partition("/")[0] in columns and not name.endswith("zarr.json")
    return is_column or name.startswith(("features/c.", "features/records/"))


@pytest.mark.slow
def test_an_update_that_was_stopped_anywhere_is_told_as_such_and_the_advice_does_no_harm(grown, tmp_path):
    grown.write("00000019", 119, 90_000)
    grown.write("00000020", 20, 12_000)
    wanted = tmp_path / "wanted"
    shutil.copytree(tmp_path / "out", wanted)
    grow_by(grown, wanted, "00000019", "00000020")
    n_acts, is_done = 0, False
    while not is_done:
        n_acts += 6  # all of them were tried by hand
        output = tmp_path / f"out-{n_acts}"
        shutil.copytree(tmp_path / "out", output)
        is_done = not stopped_at(n_acts, lambda output=output: grow_by(grown, output, "00000019", "00000020"))
        drop_leases(output)
        verdict = mimii.verify(str(output))
        said = [finding.problem for finding in verdict.findings]
        assert not said or any("run the same command again" in one or "is not finished" in one for one in said), said
        for finding in verdict.findings:
            (output / (finding.delete or "none")).unlink(missing_ok=True)
        grow_by(grown, output, "00000019", "00000020")
        assert_same_bytes(output, wanted)
        shutil.rmtree(output)
    assert n_acts > 20


def stopped_at(n_acts, act):
    """Do something that is killed after so many writes; say whether it was."""
    with pytest.MonkeyPatch.context() as patch:
        dying_at(patch, n_acts)
        try:
            act()
        except KilledError:
            return True
    return False


# Relabelling by a list, with the recordings at hand or gone


@pytest.fixture
def opened(monkeypatch):
    """Return the clips of which samples were read."""
    clips, original = [], features.load

    def load(opener, *arguments):
        clips.append(opener)
        return original(opener, *arguments)

    monkeypatch.setattr(features, "load", load)
    return clips


def write_list(path, factory, rows):
    lines = [f"{factory.path(name)},{label},{split}" for name, (label, split) in rows.items()]
    path.write_text("\n".join(["path,label,split", *lines]) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("n_acts", "are_gone"), [(None, True), (8, False), (20, True), (28, False)])
def test_a_list_relabels_and_splits_without_a_recording_being_opened(factory, tmp_path, opened, are_gone, n_acts):
    """Also where it is killed in between, and where the recordings are gone."""
    output, before = tmp_path / "out", open_table(tmp_path / "out")
    if are_gone:
        shutil.rmtree(factory.folder / "raw")
    labels = {"00000001": ("abnormal", ""), "00000002": ("", ""), "00000003": ("normal", "test")}
    plan = list_plan(write_list(tmp_path / "list.csv", factory, labels))
    opened.clear()
    if n_acts:
        stopped_at(n_acts, lambda: mimii.featurize(plan, str(output), update=True))
        drop_leases(output)
    mimii.featurize(list_plan(tmp_path / "list.csv"), str(output), update=True)
    assert opened == []
    table = open_table(output)
    label = dict(zip(factory_names(table), table.label.values.tolist(), strict=True))
    assert label == {"00000000": 1, "00000004": 1, "00000001": 1, "00000002": 0, "00000003": 0}
    assert read_splits(output)["00000001"] != "train"
    assert read_splits(output)["00000003"] == "test"
    np.testing.assert_array_equal(table.features, before.features)
    assert set(table.status.values) == {"ok"}
    check_against(factory, output)


def list_plan(path):
    return mimii.plan_table(mimii.find_recordings(lists=[str(path)]), SPEC, split="stratified", shard_bytes=1 << 20)


def factory_names(table):
    return [Path(str(path)).stem for path in table.path.values]


# Bad clips


def statuses(output):
    table = open_table(output)
    return dict(zip(factory_names(table), map(str, table.status.values), strict=True))


def write_bad(factory, name, data):
    factory.clock += 1
    factory.path(name).write_bytes(data)
    os.utime(factory.path(name), (factory.clock, factory.clock))


def test_bad_clips_come_are_repaired_and_good_ones_become_bad(factory, tmp_path, capsys):
    """The exit status counts what is named."""
    output, raw = tmp_path / "out", factory.folder / "raw"

    def command(source, *options):
        status = featurize_here(source, "--output", output, "--update", *options)
        capsys.readouterr()
        return status

    factory.write("00000005", 5, 12_000)
    whole = factory.path("00000005").read_bytes()
    write_bad(factory, "00000005", b"RIFF")  # by its header
    factory.write("00000006", 6, 12_000)
    write_bad(factory, "00000006", factory.path("00000006").read_bytes()[:10_000])  # ends in the middle
    assert command(raw) == 3
    assert command(raw, "--max-bad", 2) == 0
    assert command(factory.path("00000001")) == 0, "the bad ones are not named"
    bad = {name: status for name, status in statuses(output).items() if status != "ok"}
    assert bad.keys() == {"00000005", "00000006"}
    assert mimii.verify(str(output)).is_right
    write_bad(factory, "00000005", whole)  # both are repaired
    factory.write("00000006", 6, 12_000)
    assert command(raw) == 0
    check_live(factory, output)
    write_bad(factory, "00000002", b"garbage")  # was good
    assert command(raw) == 3
    assert statuses(output)["00000002"] not in ("ok", "")
    assert command(raw / "press" / "id_01" / "abnormal") == 0
    factory.write("00000002", 2, 12_000)
    assert command(raw) == 0
    check_live(factory, output)
    assert mimii.verify(str(output)).is_right


def check_live(factory, output):
    """Compare the rows of all clips that are good now with those of their recordings."""
    table = open_table(output)
    good = {name: clip for clip, name in enumerate(factory_names(table)) if table.status.values[clip] == "ok"}
    assert good.keys() == factory.contents.keys()
    for name, (seed, n_samples) in factory.contents.items():
        first, count = int(table.first_row[good[name]]), int(table.n_rows[good[name]])
        np.testing.assert_array_equal(table.features.values[first : first + count], expected_rows(n_samples, seed))


def test_a_recording_that_cannot_be_read_for_the_moment_keeps_its_rows(factory, tmp_path, monkeypatch):
    """It has changed, but its owner has not given permission yet."""
    factory.write("00000001", 77, 12_000)
    before, original = open_table(tmp_path / "out"), headers.read_plain_header
    with monkeypatch.context() as patch:

        def refuse(_file):
            raise PermissionError(errno.EACCES, "Permission denied")

        patch.setattr(headers, "read_plain_header", refuse)
        update(factory, tmp_path / "out")
    assert original is headers.read_plain_header
    xarray.testing.assert_equal(open_table(tmp_path / "out"), before)
    update(factory, tmp_path / "out")
    check_against(factory, tmp_path / "out")


def test_clips_of_an_archive_that_was_repaired_are_computed(factory, tmp_path, capsys):
    archive, output = tmp_path / "night.zip", tmp_path / "out"
    content = {f"press/id_02/normal/{number:08d}.wav": wav(50 + number, 12_000) for number in range(3)}
    damaged = pack(archive, content).read_bytes()
    at = damaged.index(b"00000001.wav") + 2000
    archive.write_bytes(damaged[:at] + bytes(byte ^ 255 for byte in damaged[at : at + 50]) + damaged[at + 50 :])
    assert featurize_here(archive, "--output", output, "--update") == 3
    assert len([status for status in statuses(output).values() if status != "ok"]) == 1
    archive.write_bytes(damaged)
    os.utime(archive, (factory.clock + 1, factory.clock + 1))
    assert featurize_here(archive, "--output", output, "--update") == 0
    assert set(statuses(output).values()) == {"ok"}
    assert len(open_table(output).path) == 8
    capsys.readouterr()


# What an update costs

N_CLIPS, N_UPDATES, N_NEW = 200, 6, 5
"""By hand: 2,000, 20 and 5."""

SHORT_HOP = mimii.FeatureSpec(n_mels=16, n_fft=512, hop_length=32, frames=3)


@pytest.mark.slow
def test_an_update_opens_what_is_new_and_rewrites_at_most_two_shards(tmp_path, opened):
    factory, output = Factory(tmp_path / "factory"), tmp_path / "out"
    for number in range(N_CLIPS):
        factory.write(f"{number:08d}", number, 4800)

    def run_update():
        clips = mimii.find_recordings(str(factory.folder / "raw"))
        plan = mimii.plan_table(clips, SHORT_HOP, split="stratified", shard_bytes=1 << 18)
        return mimii.featurize(plan, str(output), update=True)

    run_update()
    assert len(shard_files(output)) >= N_CLIPS // 70
    opened.clear()
    for night in range(N_UPDATES):
        for number in range(N_NEW):
            name = N_CLIPS + N_NEW * night + number
            factory.write(f"{name:08d}", name, 4800)
        before = shard_files(output)
        assert len(run_update().computed) <= 2
        assert len(replaced(before, output)) <= 2
    assert len(opened) == N_UPDATES * N_NEW
    before = contents(output)
    assert run_update().computed == ()
    assert contents(output) == before
    assert len(open_table(output).path) == N_CLIPS + N_UPDATES * N_NEW
