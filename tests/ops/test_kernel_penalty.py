"""The kernel's variational dropout: variances and KL divergence from log sigma squared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.ops.test_kernel_chains import (
    CONVOLUTIONS,
    HEAD,
    MEMBERS,
    PERCEPTRON,
    assert_within_rounding,
    batch,
    reference_loss,
)
from tests.support import chains
from tests.support.kernel import needs_kernel
from zoojax import keys
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError
from zoojax.ops import kernel
from zoojax.ops.kernel.spec import Conv
from zoojax.sparsifiers import variational_dropout

pytestmark = needs_kernel

KL_WEIGHT = 0.03


def stacked_posterior(spec, variant):
    """Weights, and log sigma squared on both sides of both clips."""
    params, _ = chains.random_parameters(spec, MEMBERS)
    shapes = variational_dropout.init_log_sigma2(params, variant)
    if variant == "released":
        for op in spec.operations:
            if isinstance(op, Conv):
                shapes[op.layer]["bias"] = params[op.layer]["bias"]
    rng = np.random.default_rng(4)
    return params, jax.tree.map(lambda x: rng.uniform(-18, 4, x.shape).astype(np.float32), shapes)


def fused(spec, given, params, log_sigma2, index, noise):
    penalty = kernel.Penalty(log_sigma2, jnp.float32(KL_WEIGHT))
    arguments = (spec, "tanh", params, None, given["images"], given["labels"], index)
    return kernel.loss(*arguments, given["weights"], noise, None, penalty=penalty)[0]


def reference(spec, given, params, log_sigma2, index, noise):
    variances = variational_dropout.variances(params, log_sigma2)
    arguments = (spec, "tanh", "cross_entropy", given, params, variances, index, noise, None)
    return reference_loss(*arguments) + KL_WEIGHT * variational_dropout.kl(params, log_sigma2)


def gradients(loss, spec, variant, dtype=jnp.float32):
    def cast(tree):
        return jax.tree.map(lambda x: jnp.asarray(x, dtype if x.dtype == "f4" else None), tree)

    params, log_sigma2 = cast(stacked_posterior(spec, variant))
    given = cast(batch(spec))

    def member(params, log_sigma2, index, seed):
        noise = keys.step_noise(keys.stream_key(seed, "noise", 1), 3, slots=128)
        return jax.value_and_grad(lambda t: loss(spec, given, *t, index, noise))(
            (params, log_sigma2)
        )

    seeds = np.arange(MEMBERS, dtype=np.int32)
    return jax.device_get(jax.jit(jax.vmap(member))(params, log_sigma2, given["index"], seeds))


@pytest.mark.parametrize("variant", variational_dropout.VARIANTS)
@pytest.mark.parametrize("spec", [CONVOLUTIONS, HEAD, PERCEPTRON], ids=["convs", "head", "mlp"])
def test_objective_and_gradients_equal_xla(spec, variant):
    assert_within_rounding(
        lambda dtype: gradients(reference, spec, variant, dtype), gradients(fused, spec, variant)
    )


def test_log_sigma2_of_some_biases_only_is_refused():
    params, log_sigma2 = stacked_posterior(CONVOLUTIONS, "released")
    params, log_sigma2 = jax.tree.map(lambda x: x[0], (params, log_sigma2))
    del log_sigma2["conv2"]["bias"]
    given = batch(CONVOLUTIONS)
    with pytest.raises(ZoojaxError, match="the bias of conv1, but not of all convolutions"):
        fused(CONVOLUTIONS, given, params, log_sigma2, given["index"][0], None)


@pytest.mark.parametrize(
    ("name", "computes"),
    [("small", False), ("medium", False), ("lenet5", True), ("gap_cnn", True), ("mlp-64", True)],
)
def test_networks_of_the_paper_keep_the_variances_of_xla(name, computes):
    spec = architecture(name, 1, 10).kernel
    assert spec is not None
    assert kernel.computes_variances(spec) == computes


def test_chains_with_a_head_compute_variances():
    assert kernel.computes_variances(HEAD)
