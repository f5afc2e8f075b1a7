"""Randomly damaged zoos: each is opened, or refused with one line."""

import contextlib
import json
import random
import shutil
from pathlib import Path

import polars as pl
import pytest

from tests.support import zoo_fixtures
from tests.support.damage import (
    FILE_REPLACEMENTS,
    HOSTILE_VALUES,
    forge_checksums,
    nested_keys,
    replace_file,
    set_nested,
)
from zoojax import ZoojaxError, open_zoo
from zoojax.filesystem.reading import read_table
from zoojax.text import is_printable


def mutate_json(rng: random.Random, path: Path) -> None:
    content = json.loads(path.read_text())
    for _ in range(rng.choice([1, 1, 2, 4])):
        action, keys = rng.randrange(4), rng.choice(nested_keys(content))
        try:
            if action == 0:
                parent = content
                for key in keys[:-1]:
                    parent = parent[key]
                del parent[keys[-1]]
            elif action == 1:
                name = rng.choice(["x", "\x1b", "a" * 10**5, ""])
                set_nested(content, (*keys[:-1], name), 1)
            else:
                set_nested(content, keys, rng.choice(HOSTILE_VALUES))
        except (KeyError, TypeError):
            continue
    path.write_text(json.dumps(content))


def mutate_bytes(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 2, 10, 100])):
        if content:
            content[rng.randrange(len(content))] = rng.randrange(256)
    if rng.random() < 0.2:
        del content[rng.randrange(len(content) + 1) :]
    path.write_bytes(content)


def mutate_table(rng: random.Random, path: Path) -> None:
    table = read_table(path)
    name = rng.choice(table.columns)
    values = [
        *(None, -1, 0, 2**40, 1.5, float("nan"), float("inf")),
        *("\x1b[2J", "x" * 10**5, [1], b"x"),
    ]
    match rng.randrange(6):
        case 0:
            table = table.drop(name)
        case 1:
            table = pl.concat([table, table.sample(1, seed=rng.randrange(99))])
        case 2:
            table = table.with_columns(pl.Series(name, [rng.choice(values)] * len(table)))
        case 3:
            table = table.rename({name: rng.choice(["", "\n", "x" * 1000, "id2"])})
        case 4:
            table = table.head(rng.randrange(len(table)))
        case _:
            table = table.with_columns(pl.Series("more", [rng.choice(values)] * len(table)))
    table.write_parquet(path)


def mutate_step(rng: random.Random, step: Path) -> None:
    files = [f for f in sorted(step.rglob("*")) if f.is_file()]
    file = rng.choice(files)
    match rng.randrange(4):
        case 0:
            replace_file(file, rng.choice(FILE_REPLACEMENTS))
        case 1:
            file.rename(file.with_name("other"))
        case _:
            mutate_bytes(rng, file)
            if rng.random() < 0.8:
                forge_checksums(step)


def mutate_zoo(rng: random.Random, path: Path) -> None:
    """Damages a zoo in one random way."""
    tables = ["members.parquet", "metrics.parquet"]
    match rng.randrange(6):
        case 0 | 1:
            mutate_json(rng, path / "zoo.json")
        case 2:
            mutate_bytes(rng, path / rng.choice(["zoo.json", *tables]))
        case 3 | 4:
            mutate_table(rng, path / rng.choice(tables))
        case _:
            mutate_step(rng, path / rng.choice(["states", "optimizer"]) / "1")


def check_one(factory, tmp_path: Path, seed: int) -> str:
    """Damages one zoo and opens it in every way.

    Returns:
        "opened" or "refused".
    """
    rng = random.Random(seed)
    kind = rng.choice(list(zoo_fixtures.KINDS))
    path = zoo_fixtures.copied(zoo_fixtures.KINDS[kind](factory), tmp_path / f"zoo-{seed}")
    for _ in range(rng.choice([1, 1, 2])):
        # A second mutation may fail on files that the first one damaged.
        with contextlib.suppress(ZoojaxError, ValueError, OSError):
            mutate_zoo(rng, path)
    done = zoo_fixtures.cli(factory, "info", path, "--check", "--quiet")
    outcome = "opened"
    if done.returncode:
        outcome = "refused"
        assert done.returncode == 2, (seed, done)
        (line,) = done.stderr.splitlines()
        assert line.startswith("zoojax: ")
        assert is_printable(line)
        assert len(line) < 3000
    assert all(is_printable(line) for line in done.stdout.splitlines()), (seed, done.stdout)
    evaluated = zoo_fixtures.cli(factory, "evaluate", path, "--epoch", 1)
    assert evaluated.returncode in (0, 2), (seed, evaluated)
    if outcome == "opened":
        assert is_printable(repr(open_zoo(path)))
    shutil.rmtree(path)
    return outcome


def check_all(factory, tmp_path: Path, seeds: range) -> None:
    marker = tmp_path / "x"
    outcomes = [check_one(factory, tmp_path, seed) for seed in seeds]
    assert {"opened", "refused"} == set(outcomes)
    assert not marker.exists()
    assert not (factory.getbasetemp() / "x").exists()


def test_forty_damaged_zoos(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_all(tmp_path_factory, tmp_path, range(40))


@pytest.mark.slow
def test_three_hundred_damaged_zoos(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_all(tmp_path_factory, tmp_path, range(40, 340))
