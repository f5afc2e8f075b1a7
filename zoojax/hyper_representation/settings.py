"""What shapes an autoencoder and its training, and the presets."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.tokens import TokenKind

Task = Literal["reconstruct", "sparsify"]

# Beyond these, building the network would take minutes or more memory than there is.
_WIDEST = 2**16
_MOST = {
    **dict.fromkeys(("chunk_length", "width", "heads", "feed_forward", "latent"), _WIDEST),
    "layers": 256,
    "epochs": 10**8,
    "batch_size": 10**8,
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a hyper-representation apart from its zoo.

    Attributes:
        task: "reconstruct" (weights, and the log alphas of the same epoch), or "sparsify"
            (from dense weights to the log alphas of a later epoch; the decoder then also
            sees the encoder's tokens, as the weights are at hand).
        tokens: "neuron" or "chunk".
        chunk_length: numbers in a chunk token.
        width: of the tokens' embeddings.
        heads: of self-attention.
        layers: of the encoder, and of the decoder.
        feed_forward: width of the feed-forward layers.
        latent: dimensions of the embedding z.
        local: share of z that is compressed token by token, each into a part of its own;
            the rest comes from the CLS token. 0 is the published model; much less width and
            training do where most is local.
        dropout: rate.
        projection: widths of the projection head, whose result the contrastive loss sees.
        temperature: of the contrastive loss.
        gamma: weight of the contrastive loss; the others have 1 - gamma (eq. 6).
        alpha_radius: r of equation 5: how far around the threshold alphas are told apart.
        noise: standard deviation of noise on the input, in units of a layer's deviation.
        erase: largest share of the input's tokens that are erased.
        epochs: of training.
        batch_size: samples a step, each in two views.
        learning_rate: of Adam.
        weight_decay: as torch.optim.Adam has it: added to the gradient.
        schedule: "plateau" (halved where the loss stays), or "cosine" (to zero).
        precision: of the matrix products: "float32" or "bfloat16".
        seed: of the split, the initialisation, the order and the views.
    """

    task: Task = "reconstruct"
    tokens: TokenKind = "neuron"
    chunk_length: int = 64
    width: int = 128
    heads: int = 4
    layers: int = 1
    feed_forward: int = 256
    latent: int = 1024
    local: float = 0.9
    dropout: float = 0.0
    projection: tuple[int, int] = (400, 50)
    temperature: float = 0.1
    gamma: float = 0.1
    alpha_radius: float = 4.0
    noise: float = 0.1
    erase: float = 0.1
    epochs: int = 36
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-9
    schedule: Literal["plateau", "cosine"] = "cosine"
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 1

    def validate(self) -> "Settings":
        """Itself.

        Raises:
            ZoojaxError: a number is out of its range.
        """
        for name, most in _MOST.items():
            value = getattr(self, name)
            if name == "batch_size" and value < 2:
                raise ZoojaxError(f"batch_size is {value}; the contrastive loss needs at least 2")
            if value < 1:
                raise ZoojaxError(f"{name} is {value}; give at least 1")
            if value > most:
                raise ZoojaxError(f"{name} is too large; give at most {most}")
        if not all(1 <= width <= _WIDEST for width in self.projection):
            raise ZoojaxError(f"the widths of projection are not from 1 to {_WIDEST}")
        if self.width % self.heads:
            raise ZoojaxError(f"width {self.width} is not a multiple of {self.heads} heads")
        for name in ("dropout", "gamma", "erase", "local"):
            if not 0 <= getattr(self, name) < 1:
                raise ZoojaxError(f"{name} is {getattr(self, name):g}; give a number in [0, 1)")
        for name in ("temperature", "alpha_radius", "learning_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ZoojaxError(f"{name} is {value:g}; give a positive number")
        for name in ("noise", "weight_decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ZoojaxError(f"{name} is {value:g}; give 0 or more")
        if not 0 <= self.seed < 2**32:
            raise ZoojaxError(f"seed is {self.seed}; give one from 0 to 2**32 - 1")
        return self


# "paper": the autoencoder of "Sparsified Model Zoo Twins", for a GPU. "small": within half an
# hour on two cores. What the paper leaves open (epochs, noise, erasing, r) is as in "small".
SMALL = Settings()
PAPER = replace(
    SMALL,
    width=800,
    heads=4,
    layers=2,
    feed_forward=900,
    latent=700,
    local=0.0,
    dropout=0.1,
    epochs=500,
    batch_size=500,
    learning_rate=1e-4,
    schedule="plateau",
)
PRESETS = {"small": SMALL, "paper": PAPER}


def preset(name: str, task: Task = "reconstruct") -> Settings:
    """A preset's settings for a task.

    To sparsify, the order of weights around the threshold is all that counts: r is narrow.
    """
    settings = replace(PRESETS[name], task=task)
    return settings if task == "reconstruct" else replace(settings, alpha_radius=1.5)
