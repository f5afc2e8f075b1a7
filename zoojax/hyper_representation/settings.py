"""Settings of an autoencoder and its training, and their presets."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.tokens import TokenKind
from zoojax.text import printable

Task = Literal["reconstruct", "sparsify"]
Schedule = Literal["plateau", "cosine"]
Precision = Literal["float32", "bfloat16"]
_CHOICES = {"task": Task, "tokens": TokenKind, "schedule": Schedule, "precision": Precision}
_FLOATS = (
    *("dropout", "gamma", "erase", "local", "temperature", "alpha_radius", "learning_rate"),
    *("behavior", "probe_share", "probe_loss"),
)

# Larger networks would take minutes, or more memory than a machine has, to build.
_MAX_WIDTH = 2**16
_MAXIMA = {
    **dict.fromkeys(
        ("chunk_length", "width", "heads", "feed_forward", "latent", "queries"), _MAX_WIDTH
    ),
    "layers": 256,
    "epochs": 10**8,
    "batch_size": 10**8,
}


@dataclass(frozen=True)
class Settings:
    """All settings of a hyper-representation except for its training zoo.

    Attributes:
        task: "reconstruct" (weights and the log alphas of the same epoch) or "sparsify" (log
            alphas of a later epoch from dense weights; the weights are available at inference,
            so the decoder also attends to the encoder's tokens).
        tokens: Kind of token, "neuron" or "chunk".
        chunk_length: Values per chunk token.
        width: Width of the token embeddings.
        heads: Number of self-attention heads.
        layers: Transformer blocks in the encoder, and in the decoder.
        feed_forward: Hidden width of the feed-forward layers.
        latent: Dimension of the embedding z.
        probes: Number of probes: training images on which the outputs of a member are an input
            of the encoder, next to its weights. 0 is the published model.
        probe_share: Fraction of z, at least one dimension, that is a linear function of the outputs
            on the probes, if there are any.
        probe_loss: Weight of the mean squared error of the outputs on the probes, predicted
            linearly from the global part of z.
        behavior: Weight of the Kullback-Leibler divergence between the predictions of the
            original and of the reconstructed member on queries. 0 is the published model.
        queries: Training images per step on which both predict.
        local: Largest fraction of z that is compressed per token, each token into its own slice;
            the rest of z is computed from the CLS token and the outputs on the probes. 0 is the
            published model. Larger fractions need much less width and training. See
            `zoojax.hyper_representation.components` for how it is divided among tokens.
        decoded_noise: Whether the network decodes log sigma squared, from which log alphas follow
            with the decoded weights. False is the published model, which decodes log alphas. The
            task "sparsify" always decodes log sigma squared.
        dropout: Dropout rate.
        projection: Hidden and output width of the projection head of the contrastive loss.
        temperature: Temperature of the contrastive loss.
        gamma: Weight of the contrastive loss; the reconstruction losses have weight 1 - gamma
            (eq. 6).
        alpha_radius: r in equation 5: the scale of log alphas around the threshold.
        noise: Standard deviation of the input noise, in units of each layer's standard
            deviation.
        erase: Maximum fraction of the input tokens that is erased.
        epochs: Training epochs.
        batch_size: Samples per step, each in two views.
        learning_rate: Learning rate of Adam.
        weight_decay: L2 penalty added to the gradient, as in torch.optim.Adam.
        schedule: "plateau" (halves the learning rate when the loss stagnates) or "cosine"
            (decays it to zero).
        precision: Precision of matrix products, "float32" or "bfloat16".
        seed: Seed of the split, the initialization, the sample order and the views.
    """

    task: Task = "reconstruct"
    tokens: TokenKind = "neuron"
    chunk_length: int = 64
    width: int = 128
    heads: int = 4
    layers: int = 1
    feed_forward: int = 256
    latent: int = 2048
    probes: int = 0
    probe_share: float = 0.03125
    probe_loss: float = 0.1
    behavior: float = 0.0
    queries: int = 32
    local: float = 0.9
    decoded_noise: bool = True
    dropout: float = 0.0
    projection: tuple[int, int] = (400, 50)
    temperature: float = 0.1
    gamma: float = 0.1
    alpha_radius: float = 4.0
    noise: float = 0.1
    erase: float = 0.0
    epochs: int = 36
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-9
    schedule: Schedule = "cosine"
    precision: Precision = "float32"
    seed: int = 1

    def validate(self) -> "Settings":
        """Returns the settings unchanged if every value is in range.

        Raises:
            ZoojaxError: If a value is out of range.
        """
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), get_args(choices))
        for name in (*_MAXIMA, "seed", "probes"):
            if not isinstance(getattr(self, name), int):
                value = printable(getattr(self, name), 80)
                raise ZoojaxError(f"{name} is {value}; give a whole number")
        if not isinstance(self.decoded_noise, bool):
            value = printable(self.decoded_noise, 80)
            raise ZoojaxError(f"decoded_noise is {value}; give True or False")
        for name in _FLOATS:
            if not isinstance(getattr(self, name), int | float):
                raise ZoojaxError(f"{name} is {printable(getattr(self, name), 80)}; give a number")
        for name, maximum in _MAXIMA.items():
            value = getattr(self, name)
            if name == "batch_size" and value < 2:
                raise ZoojaxError(f"batch_size is {value}; the contrastive loss needs at least 2")
            if value < 1:
                raise ZoojaxError(f"{name} is {value}; give at least 1")
            if value > maximum:
                raise ZoojaxError(f"{name} is too large; give at most {maximum}")
        if not all(1 <= width <= _MAX_WIDTH for width in self.projection):
            raise ZoojaxError(f"the widths of projection must be between 1 and {_MAX_WIDTH}")
        if self.width % self.heads:
            raise ZoojaxError(f"width {self.width} is not a multiple of {self.heads} heads")
        for name in ("dropout", "gamma", "erase", "local", "probe_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ZoojaxError(f"{name} is {getattr(self, name):g}; give a value in [0, 1)")
        for name in ("temperature", "alpha_radius", "learning_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ZoojaxError(f"{name} is {value:g}; give a positive value")
        if not 0 <= self.probes <= _MAX_WIDTH:
            raise ZoojaxError(f"probes is {self.probes}; give a value from 0 to {_MAX_WIDTH}")
        if self.local_latent + self.probe_latent >= self.latent:
            raise ZoojaxError(
                f"none of the {self.latent} dimensions of latent is left for the CLS token; give "
                "more, or a smaller local or probe_share"
            )
        for name in ("noise", "weight_decay", "behavior", "probe_loss"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ZoojaxError(f"{name} is {value:g}; give a non-negative value")
        if not 0 <= self.seed < 2**32:
            raise ZoojaxError(f"seed is {self.seed}; give a value from 0 to 2**32 - 1")
        return self

    @property
    def probe_latent(self) -> int:
        """Dimensions of z that are a linear function of the outputs on the probes."""
        return max(1, int(self.latent * self.probe_share)) if self.probes else 0

    @property
    def local_latent(self) -> int:
        """Largest number of dimensions of z that belong to single tokens."""
        return int(self.latent * self.local)

    @property
    def uses_behavior(self) -> bool:
        """Whether members are run on images."""
        return self.probes > 0 or self.behavior > 0


# "paper": the autoencoder of "Sparsified Model Zoo Twins", for a GPU. "small": trains in half
# an hour on two cores. The paper does not report epochs, noise, erasing and r.
SMALL = replace(Settings(), probes=256, behavior=1.0)
PAPER = replace(
    Settings(),
    width=800,
    heads=4,
    layers=2,
    feed_forward=900,
    latent=700,
    local=0.0,
    decoded_noise=False,
    dropout=0.1,
    erase=0.1,
    epochs=500,
    batch_size=500,
    learning_rate=1e-4,
    schedule="plateau",
)
PRESETS = {"small": SMALL, "paper": PAPER}


def preset(name: str, task: Task = "reconstruct") -> Settings:
    """Returns the settings of a preset for a task.

    The task "sparsify" depends only on the ranking of weights near the threshold, so its r is
    smaller.

    Args:
        name: A key of PRESETS.
        task: "reconstruct" or "sparsify".

    Raises:
        ZoojaxError: If there is no such preset or task.
    """
    _check_choice("preset", name, tuple(PRESETS))
    _check_choice("task", task, get_args(Task))
    settings = replace(PRESETS[name], task=task)
    return settings if task == "reconstruct" else replace(settings, alpha_radius=1.5)


def _check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(sorted(choices))
        raise ZoojaxError(f"{argument} is '{printable(value, 80)}'; give one of {known}")
