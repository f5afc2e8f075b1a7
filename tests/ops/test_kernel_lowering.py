"""Chains become stages of integers; chains that the kernel lacks are refused with a reason."""

import dataclasses
import re

import pytest

from tests.support import chains
from zoojax import ZoojaxError
from zoojax.ops import kernel
from zoojax.ops.kernel import lowering
from zoojax.ops.kernel.spec import (
    NO_PADDING,
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    KernelSpec,
    Pool,
    is_pooled_by_two,
)

CONV = Conv("conv", 4, (3, 3), (1, 1), NO_PADDING, 0)
POOL = Pool("max", (2, 2), (2, 2))
END = (GlobalAveragePool(), Dense("fc", 3, 1))


def spec(*operations, shape=(9, 8, 2)) -> KernelSpec:
    return KernelSpec(shape, operations)


def changed(operation, **fields):
    return dataclasses.replace(operation, **fields)


def test_shapes_of_a_chain():
    chain = spec(CONV, POOL, Activation(), Flatten(), Dropout(9), Dense("fc", 5, 1))
    expected = ((9, 8, 2), (7, 6, 4), (3, 3, 4), (3, 3, 4), (36,), (36,), (5,))
    assert chain.shapes == expected and chain.outputs == 5
    assert chain.layers == ("conv", "fc")
    assert chain.parameter_shapes() == {
        "conv": {"kernel": (3, 3, 2, 4), "bias": (4,)},
        "fc": {"kernel": (36, 5), "bias": (5,)},
    }
    padded = changed(CONV, stride=(2, 1), padding=((1, 2), (0, 1)))
    assert spec(padded, *END).shapes[1] == (5, 7, 4)


@pytest.mark.parametrize(
    "operations",
    [
        (Dense("fc", 3, 1),),
        (Flatten(), CONV),
        (Flatten(), Flatten()),
        (GlobalAveragePool(), POOL),
        (changed(CONV, kernel=(9, 9)), *END),
    ],
)
def test_operations_that_do_not_fit(operations):
    with pytest.raises(ZoojaxError):
        _ = spec(*operations).shapes
    assert kernel.unavailable_reason(spec(*operations)) is not None


@pytest.mark.parametrize(
    ("operations", "kinds", "fused"),
    [
        ((CONV, POOL, Activation(), Dropout(9), *END), [0, 3, 1], (2, 1, 0)),
        ((CONV, Activation(), POOL, *END), [0, 3, 1], (2, 0, 1)),
        ((CONV, Activation(), Dropout(9), POOL, *END), [0, 2, 3, 1], (1, 0, 0)),
        ((CONV, changed(POOL, window=(3, 2)), *END), [0, 2, 3, 1], (1, 0, 0)),
        ((changed(CONV, stride=(1, 2)), POOL, *END), [0, 3, 1], (2, 0, 0)),
        ((CONV, Activation("identity"), Activation(), Activation(), *END), [0, 4, 3, 1], (1, 0, 0)),
    ],
)
def test_stages(operations, kinds, fused):
    stages, head = lowering.lower(spec(*operations))
    assert [stage.kind for stage in stages] == kinds and head == len(stages)
    first = stages[0]
    assert (first.pool, first.pooled_noise, first.activate_first) == fused
    assert first.pooled_noise == is_pooled_by_two(*operations[:2])


def test_wide_layers_run_one_member_after_the_other():
    def head(units):
        layers = (Dense("fc1", units, 1), Activation(), Dense("fc2", 2, 2))
        return lowering.lower(spec(CONV, Flatten(), *layers))

    # 168 inputs.
    assert head(24)[1] == 3
    assert head(25)[1] == 1


@pytest.mark.parametrize("seed", range(20))
def test_only_digits_reach_the_compiler(seed):
    chain = chains.random_chain(seed)
    named = {name: f"{name}; #include" for name in chain.layers}
    operations = tuple(
        changed(op, layer=named[op.layer]) if isinstance(op, Conv | Dense) else op
        for op in chain.operations
    )
    macros = lowering.macros(KernelSpec(chain.input_shape, operations))
    assert macros == lowering.macros(chain)
    assert all(re.fullmatch(r"-DZOOJAX_[A-Z]+=[-0-9u,{}]+", macro) for macro in macros)


@pytest.mark.parametrize(
    "operations",
    [
        (changed(CONV, features="4;"), *END),
        (changed(CONV, features=True), *END),
        (changed(CONV, features=65), *END),
        (changed(CONV, kernel=(3.0, 3)), *END),
        (changed(CONV, kernel=(3,)), *END),
        (changed(CONV, stride=(0, 1)), *END),
        (changed(CONV, padding=((-1, 0), (0, 0))), *END),
        (changed(CONV, padding=(1, 1)), *END),
        (changed(CONV, slot=-1), *END),
        (CONV, changed(POOL, kind="min"), *END),
        (CONV, changed(POOL, padding=((2, 0), (0, 0))), *END),
        (CONV, Pool("average", (2, 2), (2, 2), ((0, 0), (0, 2))), *END),
        (CONV, Activation("softmax"), *END),
        (CONV, Activation("sine", float("nan")), *END),
        (CONV, Activation("sine", 1e39), *END),
        (CONV, Dropout("x"), *END),  # pyright: ignore
        (CONV, "Conv", *END),
        (CONV, *END, Dense("fc", 3, 2)),
        (GlobalAveragePool(), Dense("fc", 5000, 1)),
        (GlobalAveragePool(), Activation()),
        (CONV, GlobalAveragePool(), *(Activation(),) * 70, Dense("fc", 3, 1)),
        (),
    ],
)
def test_unsupported_chains_are_refused_before_compiling(operations, monkeypatch):
    monkeypatch.setattr("zoojax.ops.kernel.build._register_once", None)
    reason = kernel.unavailable_reason(spec(*operations))
    assert reason is not None and "it supports" in reason and "\n" not in reason


@pytest.mark.parametrize("shape", [(9, 8), [9, 8, 2], (0, 8, 2), (9, 65, 2), (9, 8, "2")])
def test_unsupported_images_are_refused(shape):
    reason = kernel.unavailable_reason(KernelSpec(shape, (CONV, *END)))
    assert reason is not None and "it supports" in reason
