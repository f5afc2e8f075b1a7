"""NFN's splits: of the rows of the Small CNN Zoo, and of SIRENs by the number of their image."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import foreign_zoos
from zoojax.converters.api import convert_from
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.registry import recognize

RUNS, STEPS = 23, (0, 1, 86)


def write_order(root: Path, name: str = "mnist_split.csv", seed: int = 0) -> np.ndarray:
    """Writes an order of the rows as NFN publishes it; returns what its loader reads."""
    order = np.random.default_rng(seed).permutation(RUNS * len(STEPS))
    (root / name).write_text("0\n" + "".join(f"{row}\n" for row in order))
    return np.array([0, *order])


def published_splits(order: np.ndarray) -> dict[int, str]:
    """The split of each run, as NFN's loader indexes its arrays."""
    steps = np.tile(STEPS, RUNS)[order]
    data = np.repeat(np.arange(RUNS), len(STEPS))[order][steps == 86]
    first, second = np.arange(len(data) // 2).tolist(), data[len(data) // 2 :]
    random.Random(0).shuffle(first)
    end = int(0.8 * len(first))
    parts = {"train": data[first[:end]], "val": data[first[end:]], "test": second}
    return {int(run): split for split, runs in parts.items() for run in runs}


def listed(root: Path) -> tuple[list[str | None], list[str]]:
    """The splits of the members of a matrix in order, and the remarks about splits."""
    reader, _ = recognize(root)
    listing = reader.members(root, DialectOptions())
    return [s.split for s in listing.sources], [n for n in listing.notes if "split" in n]


def test_order_of_the_rows_gives_the_splits(tmp_path):
    root = foreign_zoos.flat_matrix(tmp_path / "root", RUNS, STEPS)
    expected = published_splits(write_order(root))
    found, notes = listed(root)
    assert found == [expected[run] for run in range(RUNS)]
    assert {split: found.count(split) for split in expected.values()} == {
        "train": 8, "val": 3, "test": 12
    }  # fmt: skip
    assert notes == [
        f"the splits of {RUNS} members are those of NFN, by the order in mnist_split.csv"
    ]
    table = convert_from(root, tmp_path / "zoo", quiet=True).zoo.members_table
    assert table["split"].to_list() == found


def test_members_without_the_last_step_have_no_split(tmp_path):
    root = foreign_zoos.flat_matrix(tmp_path / "root", RUNS, (0, 1, 80))
    write_order(root)
    assert listed(root)[0] == [None] * RUNS


def test_row_that_nfn_reads_twice_is_in_no_split_if_they_differ(tmp_path):
    """Row 0 counts twice if it is of the last step: at the start, and at its own place."""
    root = foreign_zoos.flat_matrix(tmp_path / "root", RUNS * len(STEPS), (86,))
    rows = RUNS * len(STEPS)
    (root / "mnist_split.csv").write_text("0\n" + "".join(f"{rows - 1 - i}\n" for i in range(rows)))
    found, _ = listed(root)
    assert found[0] is None and None not in found[1:]


@pytest.mark.parametrize(
    "content, reason",
    [
        ("0\n1\n2\n", "does not list each of 69 rows once"),
        ("0\n" * 69, "does not list each of 69 rows once"),
        ("".join(f"{i + 1}\n" for i in range(69)), "does not list each of 69 rows once"),
        ("0\n-1\n", "not the number of a row"),
        ("train\n", "not the number of a row"),
        ("9" * 40, "not the number of a row"),
        ("0\x001\n", "not the number of a row"),
    ],
)
def test_damaged_orders_are_named(tmp_path, content, reason):
    root = foreign_zoos.flat_matrix(tmp_path / "root", RUNS, STEPS)
    (root / "mnist_split.csv").write_text(content)
    found, (note,) = listed(root)
    assert found == [None] * RUNS
    assert note.startswith("splits cannot be read: mnist_split.csv") and reason in note
    assert "\n" not in note


def test_links_and_ambiguous_orders_are_not_read(tmp_path):
    root = foreign_zoos.flat_matrix(tmp_path / "root", RUNS, STEPS)
    write_order(root)
    (root / "svhn_split.csv").symlink_to(root / "mnist_split.csv")
    found, (note,) = listed(root)
    assert found == [None] * RUNS
    assert note == (
        "splits are not read: mnist_split.csv, svhn_split.csv name 2 orders for the zoo's images"
    )
    (root / "mnist_split.csv").rename(tmp_path / "elsewhere.csv")
    found, (note,) = listed(root)
    assert found == [None] * RUNS and "is a link, which is not followed" in note


def test_order_is_that_of_the_image_set(tmp_path):
    root = foreign_zoos.flat_matrix(tmp_path / "root", RUNS, STEPS, dataset="svhn_cropped")
    write_order(root, "mnist_split.csv", seed=1)
    expected = published_splits(write_order(root, "svhn_split.csv", seed=2))
    assert listed(root)[0] == [expected[run] for run in range(RUNS)]
    (root / "svhn_split.csv").unlink()
    found, (note,) = listed(root)
    assert found == [None] * RUNS
    assert note == "splits are not read: mnist_split.csv name 0 orders for svhn_cropped"


def test_splits_of_sirens_follow_from_the_number_of_the_image(tmp_path):
    """NFN has the same two numbers for its three image sets, augmented copies included."""
    numbers = {0: "train", 44_999: "train", 45_000: "val", 49_999: "val", 50_000: "test"}
    for number in numbers:
        for name in ("randinit_smaller_3s", "randinit_smaller_aug1_3s"):
            folder = tmp_path / "siren_mnist_wts" / name
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(foreign_zoos.siren_state(number), folder / f"net{number}.pth")
    table = convert_from(tmp_path / "siren_mnist_wts", tmp_path / "zoo", quiet=True).zoo
    rows = table.members_table.select("image", "split", "label").rows()
    assert len(rows) == 2 * len(numbers)
    assert all(numbers[image] == split and label == 3 for image, split, label in rows)
