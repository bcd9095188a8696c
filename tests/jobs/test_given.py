"""Options by their old names, and options that have no effect beside the others."""

import argparse
import importlib
import re

import pytest

from jobs.given import NoEffect, add_old_name, check_effects, read_options


def make_parser():
    parser = argparse.ArgumentParser(prog="job")
    seed = parser.add_argument("--split-seed", type=int, default=0, metavar="N")
    add_old_name(parser, seed, "--seed")
    add_old_name(parser, parser.add_argument("--show", action="store_true"), "--list")
    parser.add_argument("--fraction", type=float, default="0.8")
    parser.add_argument("--split", default="baseline")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("sources", nargs="*")
    return parser


ONLY_DRAWN = NoEffect("fraction", lambda options: options.split != "drawn", "--split {split} draws nothing")


def test_an_option_without_effect_is_refused_where_it_was_given(capsys):
    with pytest.raises(SystemExit) as caught:
        read_options(make_parser(), ["--fraction", "0.5"], [ONLY_DRAWN])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("job: error: argument --fraction: --split baseline draws nothing\n")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("--splt-seed", "; did you mean --split-seed?"),
        ("--fractions=3", "; did you mean --fraction?"),
        ("--colour", ""),
    ],
)
def test_an_option_with_a_mistake_is_refused_with_the_one_that_was_meant(capsys, word, hint):
    with pytest.raises(SystemExit) as caught:
        read_options(make_parser(), [word])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"job: error: unrecognized arguments: {word}{hint}\n")


def test_it_is_refused_also_where_its_default_was_given():
    with pytest.raises(SystemExit):
        read_options(make_parser(), ["--fraction", "0.8"], [ONLY_DRAWN])


@pytest.mark.parametrize("arguments", [[], ["a", "b", "--option", "x"], ["--split", "drawn", "--fraction", "0.8"]])
def test_a_default_and_an_option_with_effect_pass(arguments, capsys):
    options = read_options(make_parser(), arguments, [ONLY_DRAWN])
    assert (options.fraction, capsys.readouterr().err) == (0.8, "")


def test_what_was_given_is_known():
    given = read_options(make_parser(), ["--option", "a", "--split-seed", "0", "raw"]).given
    assert given == {"option", "split_seed", "sources"}


def test_effects_can_be_checked_later_when_more_is_known(capsys):
    parser = make_parser()
    options = read_options(parser, ["--fraction", "1"])
    options.split = "none"
    with pytest.raises(SystemExit):
        check_effects(parser, options, [ONLY_DRAWN])
    assert "--split none draws nothing" in capsys.readouterr().err


def test_an_old_name_does_the_same_with_one_line_that_names_the_new_one(capsys):
    options = read_options(make_parser(), ["--seed", "7", "--list"])
    assert (options.split_seed, options.show, "split_seed" in options.given) == (7, True, True)
    assert capsys.readouterr().err.splitlines() == [
        "--seed is --split-seed now; the old name goes with version 0.2.0",
        "--list is --show now; the old name goes with version 0.2.0",
    ]


def test_an_old_name_is_not_in_the_help(capsys):
    page = make_parser().format_help()
    assert "--split-seed N" in page
    assert "--seed" not in page.replace("--split-seed", "")
    read_options(make_parser(), ["--split-seed", "1"])
    assert not capsys.readouterr().err


REFUSED = [
    ("featurize", "--train-fraction 0.5", "--train-fraction: has an effect with --split stratified only"),
    ("featurize", "--split none --split-seed 1", "--split-seed: has an effect with --split stratified only"),
    ("featurize", "--split none --seed 1", "--split-seed: has an effect with --split stratified only"),
    ("featurize", "--update --split baseline --split-seed 1", "--split-seed: has an effect with --split stratified"),
    ("featurize", "--workers 2 --scheduler sync", "--workers: --scheduler sync does one task after the other"),
    ("featurize", "--workers 2 --scheduler tcp://a:1", "--workers: tcp://a:1 has the workers that were started for it"),
    ("featurize", "--adapt 1 2 --scheduler sync", "--adapt: workers are started and stopped with --scheduler local or"),
    ("featurize", "--adapt 1 2 --scheduler tcp://a:1", "--adapt: workers are started and stopped with --scheduler"),
    ("featurize", "--adapt 1 2 --workers 2", "--adapt: takes the place of --workers; use one of them"),
    ("featurize", "--timeout 5", "--timeout: with --scheduler local there is no scheduler to wait for"),
    ("featurize", "--prune", "--prune: needs --update"),
    ("featurize", "--update --overwrite", "--overwrite: not with --update, which keeps what is there"),
    ("featurize", "--output-option anon=true", "--output-option: the output is not on S3"),
    ("featurize", "--storage-option anon=true", "--storage-option: nothing named here is on S3"),
    ("render", "--cmap magma", "--cmap: needs --style colormap"),
    ("render", "--resample box", "--resample: needs --size"),
    ("render", "--split none --train-fraction 0.5", "--train-fraction: has an effect with --split stratified only"),
    ("detect", "--epochs 3", "--epochs: only networks are trained in epochs: --model autoencoder"),
    ("detect", "--model pca --epochs 3", "--epochs: only networks"),
    ("detect", "--training-seed 3", "--training-seed: has an effect on detectors that learn from rows only: --model"),
    ("detect", "--no-normalize", "--normalize: has an effect on detectors that learn from rows only"),
    ("score", "models new --update", "--update: needs --output"),
    ("score", "models new --output a --update --overwrite", "--overwrite: not with --update"),
    ("score", "models new --output-option anon=true", "--output-option: the output is not on S3"),
    ("verify", "table --sample 3", "--sample: needs --against SOURCE"),
    ("verify", "table --sample-seed 3", "--sample-seed: needs --against SOURCE"),
    ("verify", "table --fetch-window 3", "--fetch-window: needs --against SOURCE"),
    ("fetch", "fan --verify-only --list-archives", "--verify-only: not with --list-archives"),
    ("benchmark", "--learn 3", "--learn: has an effect with --job detect only"),
    ("benchmark", "--job train --clips 3", "--clips: --job train takes all clips of the table"),
    ("benchmark", "--job render --floor floor", "--floor: has an effect with --job featurize only"),
]


@pytest.mark.parametrize(("job", "arguments", "reason"), REFUSED)
def test_jobs_refuse_options_without_effect(job, arguments, reason, capsys):
    module = importlib.import_module(f"jobs.{job}.__main__" if job == "benchmark" else f"jobs.{job}")
    with pytest.raises(SystemExit) as caught:
        module.main(arguments.split())
    assert caught.value.code == 2
    assert f"error: argument {reason}" in capsys.readouterr().err.replace("\n", " ")


MEANINGS = {"--window": {"render"}, "--seed": {"synthesize"}, "--list": {"featurize", "render", "score"}}


@pytest.mark.parametrize("option", MEANINGS)
def test_an_option_has_one_meaning_over_all_jobs(option):
    modules = {job: importlib.import_module(f"jobs.{job}") for job in ("featurize", "render", "detect", "score")}
    modules |= {job: importlib.import_module(f"jobs.{job}") for job in ("verify", "fetch", "synthesize")}
    modules["benchmark"] = importlib.import_module("jobs.benchmark.__main__")
    pages = {job: module.make_parser().format_help() for job, module in modules.items()}
    assert {job for job, page in pages.items() if re.search(rf"  {option}\b(?!-)", page)} == MEANINGS[option]
