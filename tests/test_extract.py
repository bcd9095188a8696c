"""One task: which clips it counts, and what it makes of a clip that cannot be read for the moment."""

from jobs.progress import show_lines
from mimii.extract import count_ended, extract_shard
from mimii.table import shard_task
from tests.commands import assert_same_bytes, build, featurize_here, fill, plan_table, shard_files
from tests.recordings import write_clip


def test_a_clip_that_straddles_shards_counts_once(tmp_path):
    for seed, seconds in enumerate((7, 11, 13, 17, 19, 23, 29)):
        write_clip(tmp_path / f"{seed}.wav", seed, 16_000 * seconds)
    table = plan_table(tmp_path)
    tasks = [shard_task(table, index, "unused") for index in range(table.plan.n_shards)]
    assert len(tasks) > 2
    assert sum(len(task.parts) for task in tasks) > 7
    assert sum(count_ended(task) for task in tasks) == 7


def test_progress_counts_a_bad_clip_that_straddles_shards_once(tmp_path, capsys):
    for seed, seconds in enumerate((20, 40, 20)):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 16_000 * seconds)
    table = plan_table(tmp_path / "raw")
    (tmp_path / "raw" / "1.wav").write_bytes(b"no longer audio")
    done = fill(table, tmp_path / "out")
    assert sum(1 in shard.bad for shard in done) > 1
    assert list(show_lines(done, 3, 0)) == done
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("3/3 clips")
    assert last.endswith("1 bad")


def test_the_last_line_says_how_many_are_bad(tmp_path, capsys):
    for seed in range(4):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed)
    table = plan_table(tmp_path / "raw")
    (tmp_path / "raw" / "2.wav").write_bytes(b"no longer audio")
    list(show_lines(fill(table, tmp_path / "out"), 4, 5))
    assert capsys.readouterr().err.strip().endswith(", 0 s left, 6 bad")


def test_a_clip_that_could_not_be_read_for_the_moment_is_tried_again(tmp_path):
    raw, moved, output = tmp_path / "raw", tmp_path / "elsewhere.wav", tmp_path / "out"
    for seed in range(6):
        write_clip(raw / f"{seed}.wav", seed, 160_000)
    table = plan_table(raw)
    undisturbed = build(table, tmp_path / "undisturbed")
    (raw / "3.wav").rename(moved)
    build(table, output)
    moved.rename(raw / "3.wav")
    before = shard_files(output)
    assert featurize_here(raw, "--output", output, "--shard-mib", 1, "--scheduler", "sync") == 0
    after = shard_files(output)
    changed = [index for index in before if before[index] != after[index]]
    assert changed == [index for index in before if any(p.clip == 3 for p in table.plan.shard(index).pieces)]
    for name in ("features", "row_clip"):
        assert_same_bytes(output / name, undisturbed / name)


def test_a_task_may_be_done_twice(tmp_path):
    write_clip(tmp_path / "raw" / "a.wav", 1, 160_000)
    table = plan_table(tmp_path / "raw")
    once, twice = build(table, tmp_path / "once"), build(table, tmp_path / "twice")
    extract_shard(shard_task(table, 0, str(twice)))
    assert_same_bytes(once / "features", twice / "features")
