"""The contract of views: states come back bit for bit, for every architecture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.weight_zoos import random_zoo
from zoojax import WeightDataset
from zoojax.architectures import permutations
from zoojax.architectures.base import vector_layout
from zoojax.architectures.registry import architecture, architectures
from zoojax.errors import ZoojaxError
from zoojax.weight_datasets import Flat, Graph, State, Tokens
from zoojax.weight_datasets.build import ArchitectureNetwork
from zoojax.weight_datasets.permuting import Permuter, random_bits
from zoojax.weight_datasets.view import Drawn

NAMES = [name for name in architectures() if name != "resnet18"]
FAMILIES = ["mlp-16-12", "siren-24-16", "resnet18-2-8", "vit-12-1-3-4-8"]
CHAIN = "chain-28-c8x5-m2-a-f-d"
PLUGINS = ["mlp", "residual_cnn"]
by_architecture = pytest.mark.parametrize("name", [*NAMES, *FAMILIES, CHAIN, *PLUGINS])
VIEWS = (
    State(),
    Flat(),
    Tokens(),
    Tokens("chunk", size=7),
    Tokens("sane", size=5),
    Graph(),
)


def states(layout, count=3):
    """Random bits as float32: also NaNs and denormal numbers."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**32, (count, layout.size), np.uint32).view(np.float32)


def bits(x) -> np.ndarray:
    return np.ascontiguousarray(x).view(np.uint32)


@by_architecture
def test_views_return_to_the_same_bits(name):
    network = ArchitectureNetwork(architecture(name, 1))
    layout = network.layout
    vectors = states(layout)
    torch = []
    try:
        network.order("torch")
        torch = [Flat("torch"), Tokens("sane", size=5, layout="torch")]
    except ZoojaxError as error:
        assert "no torch layout is known" in str(error)
    assert torch or name in (CHAIN, *PLUGINS)
    for view in (*VIEWS, *torch):
        plan = view.plan(network)
        items = view.items(Drawn(vectors, layout, np.zeros(3)), plan)
        back = view.vectors(items, plan, layout)
        size = layout.size if view.name == "state" else layout.parameters
        np.testing.assert_array_equal(bits(back), bits(vectors[:, :size]), err_msg=str(view))


@by_architecture
def test_permutation_is_that_of_the_architecture(name):
    """The same as `permutations.permute` with the same orders, and it changes something."""
    arch = architecture(name, 1)
    layout = vector_layout(arch)
    vectors, permuter = states(layout), Permuter(layout)
    drawn = random_bits(3, 1, np.arange(3, dtype=np.uint64), permuter.units)
    permuted = permuter.permute(vectors, drawn)
    ends = np.cumsum(arch.permuted_units())[:-1]
    for row in range(3):
        parts = np.split(drawn[row], ends) if permuter.units else []
        orders = [jnp.asarray(np.argsort(part, kind="stable")) for part in parts]
        actual = layout.unflatten(permuted[row])
        for collection, tree in layout.unflatten(vectors[row]).items():
            wanted = permutations.permute(tree, orders, arch.permutations)
            jax.tree.map(
                lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)),
                dict(actual[collection]),
                wanted,
            )
    assert (bits(permuted) != bits(vectors)).any() == (permuter.units > 0)


@by_architecture
def test_graphs_connect_all_units(name):
    """Every unit has an edge, inputs only outgoing and outputs only incoming ones."""
    network = ArchitectureNetwork(architecture(name, 1))
    plan = Graph().plan(network)
    source, target = plan["edge_index"]
    nodes, layer = np.arange(len(plan["nodes"])), plan["node_layer"]
    np.testing.assert_array_equal(np.union1d(source, target), nodes)
    assert set(nodes[layer == 0]) == set(source) - set(target)
    assert set(nodes[layer == layer.max()]) == set(target) - set(source)
    assert plan["edges"].shape[0] == len(plan["edge_layer"]) == len(source)


@pytest.mark.parametrize("name", ["resnet18-2-8", "vit-12-1-3-4-8"])
def test_a_zoo_of_each_kind_gives_all_views(name, tmp_path):
    zoo = random_zoo(tmp_path / "zoo", name, members=3, epochs=1)
    for view in VIEWS:
        dataset = WeightDataset(zoo, view, cache=tmp_path / "cache")
        params = dataset.parameters(dataset[3:])
        jax.tree.map(np.testing.assert_array_equal, params, zoo.params(1))
    state = WeightDataset(zoo, "state", cache=tmp_path / "cache")[3:]
    expected = {"params": zoo.params(1), **zoo.state(1).get("collections", {})}
    jax.tree.map(np.testing.assert_array_equal, state, expected)
