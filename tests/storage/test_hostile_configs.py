"""zoo.json from an untrusted source: opened, or refused with one line; nothing in it is run."""

import json

import pytest

from tests.support.damage import (
    CODE,
    HOSTILE_VALUES,
    assert_read_fails,
    edit_config,
    nested_keys,
    refuses,
    set_nested,
)
from zoojax import ZoojaxError, open_zoo
from zoojax.text import is_printable

# Fields that may hold any short printable text, or whose changes are detected elsewhere.
UNCHECKED = {"name", "preset", "path", "versions", "origin", "train", "val", "seed", "mean", "crop"}


def test_hostile_values_of_every_field(zoo_of_any_kind):
    """A value that is accepted has the type and range of its field."""
    zoo = zoo_of_any_kind
    original = json.loads((zoo.path / "zoo.json").read_text())
    for path in nested_keys(original):
        for value in HOSTILE_VALUES:
            content = json.loads(json.dumps(original))
            set_nested(content, path, value)
            (zoo.path / "zoo.json").write_text(json.dumps(content))
            try:
                opened = open_zoo(zoo.path)
            except ZoojaxError as error:
                assert is_printable(str(error))
                assert len(str(error)) < 1500
                assert str(zoo.path) in str(error)
                continue
            config = opened.config
            assert type(config.classes) is int and type(config.channels) is int
            assert is_printable(repr(opened))
            if not UNCHECKED & set(path) and value not in (None, {}):
                # A number within the range of the field.
                is_number = type(value) in (int, float, bool) or value == "10"
                # std may be a number per channel.
                assert is_number or (path[-1], value) == ("std", [1])


@pytest.mark.parametrize("field", ["classes", "channels", "chunk", "batch_size", "epochs"])
def test_code_in_config_is_not_executed(zoo_of_any_kind, tmp_path, field):
    marker = tmp_path / "marker"
    file = edit_config(zoo_of_any_kind, lambda c: c.update({field: CODE.format(marker)}))
    assert_read_fails(lambda: open_zoo(zoo_of_any_kind.path), file, field)
    assert not marker.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(sparsifier="magnitude_pruning"),
        lambda c: c.update(sparsifier=None),
        lambda c: c.update(sparsifier={}),
        lambda c: c.update(sparsifier={"name": 3}),
        lambda c: c.update(sparsifier={"name": "pruned"}),
        lambda c: c.update(sparsifier={"name": "os:system"}),
        lambda c: c.update(sparsifier={"name": "dense", "scope": "global"}),
        lambda c: c.update(sparsifier={"name": "magnitude_pruning"}),
        lambda c: c.update(sparsifier={"name": "magnitude_pruning", "scope": "all"}),
        lambda c: c.update(sparsifier={"name": "magnitude_pruning", "scope": 1}),
        lambda c: c.update(
            sparsifier={"name": "magnitude_pruning", "scope": "global", "ratios": [0.5]}
        ),
        lambda c: c.update(sparsifier={"name": "variational_dropout", "variant": "other"}),
        lambda c: c.update(schema=1),
        lambda c: c.update(schema=1, kind="pruned", scope=None, variant=None),
        lambda c: c.update(schema=1, kind="mp", scope=None, variant=None),
        lambda c: c.update(schema=1, kind="vd", scope="global", variant="released"),
        lambda c: c.update(classes=0),
        lambda c: c.update(classes=2**40),
        lambda c: c.update(channels=2),
        lambda c: c.update(epochs=-1),
        lambda c: c.update(data_order="mine"),
        lambda c: c.update(architecture="huge"),
        lambda c: c.update(architecture="os:system"),
        lambda c: c.update(architecture="mlp-4096-4096-4096-4096-4096-4096-4096-4096"),
        lambda c: c.update(architecture="mlp-4096", data=None, data_hash=None, classes=2**16),
        lambda c: c.update(data_hash="z" * 64),
        lambda c: c["data"].update(size=32),
        lambda c: c["data"].update(std=0),
        lambda c: c["data"].update(name=3),
        lambda c: c["data"].update(more=3),
        lambda c: c.update(versions={"jax": 3}),
        lambda c: c.update(more=3),
        lambda c: c.update(schema=0),
        lambda c: c.update(schema=True),
    ],
)
def test_invalid_configs(zoo_of_any_kind, change):
    file = edit_config(zoo_of_any_kind, change)
    assert_read_fails(lambda: open_zoo(zoo_of_any_kind.path), file)


def test_twin_without_parent(zoo_of_any_kind):
    """Twins that were converted without their parent have none; dense zoos never do."""
    zoo = zoo_of_any_kind
    edit_config(zoo, lambda c: c.update(parent=None))
    if not zoo.config.is_dense:
        # Then the members table must not refer to a parent either.
        assert_read_fails(lambda: open_zoo(zoo.path), "parent_id")
        table = zoo.members_table.drop("parent_id")
        table.write_parquet(zoo.path / "members.parquet")
    assert open_zoo(zoo.path).config.parent is None


def test_newer_schema(zoo):
    file = edit_config(zoo, lambda c: c.update(schema=99, novelty=1))
    with refuses(f"{file} has schema 99"):
        open_zoo(zoo.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("format"),
        lambda c: c.update(format="other"),
        lambda c: c.pop("schema"),
        lambda c: c.update(schema="new"),
        lambda c: c.pop("parent"),
        lambda c: c.pop("data"),
        lambda c: c.pop("sparsifier"),
        lambda c: c.update(data=3),
        lambda c: c.update(data={"name": "digits", "color": 1}),
        lambda c: c.update(parent={"path": "x"}),
        lambda c: c.update(parent=3),
        lambda c: c.update(unknown=1),
    ],
)
def test_invalid_config_structure(zoo, change):
    file = edit_config(zoo, change)
    with refuses(file):
        open_zoo(zoo.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe\x00", b"\x00" * 9])
def test_damaged_json(zoo, content):
    (zoo.path / "zoo.json").write_bytes(content)
    with refuses(zoo.path / "zoo.json"):
        open_zoo(zoo.path)


def test_json_is_a_folder(zoo):
    (zoo.path / "zoo.json").unlink()
    (zoo.path / "zoo.json").mkdir()
    with refuses(zoo.path / "zoo.json"):
        open_zoo(zoo.path)
