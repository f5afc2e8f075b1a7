"""The Small CNN Zoo (Unterthiner et al., "Predicting Neural Network Accuracy from Weights", 2020).

Random search over optimizer, activation, initialization, learning rate, weight decay, dropout and
the fraction of the training images; 30,000 members per image set, 86 epochs with batches of 512.
The ranges are those of the metrics that the authors published with the zoo, see
https://github.com/google-research/google-research/tree/master/dnn_predict_accuracy.

Differences from the original zoo:

- Every member has its own seed, which determines its draws and initial weights. In the original,
  all members have seed 42.
- Optimizers are those of PyTorch. Its RMSprop averages squared gradients more slowly (0.99) than
  that of Keras (0.9).
- Weight decay also acts on biases.
- The last, smaller batch of an epoch is used.
- 10,000 images are reserved for validation.
- Color images are converted to gray by their luma, not by the mean of their channels.

Keras adds l2 * |w|^2 to the loss; its gradient is that of a weight decay of 2 * l2, so that weight
decays are twice the original l2.
"""

from dataclasses import replace

from zoojax.datasets.specs import DataSpec
from zoojax.hyperparameters.draws import Choice, LogUniform, Uniform
from zoojax.hyperparameters.grid import Grid
from zoojax.presets.settings import Preset

_SEARCH = Grid(
    activations=Choice(("relu", "tanh")),
    inits=Choice(("he_normal", "orthogonal", "glorot_normal", "normal", "truncated_normal")),
    optimizers=Choice(("adam", "sgd", "rmsprop")),
    learning_rates=LogUniform(5e-4, 5e-2),
    weight_decays=LogUniform(2e-8, 2e-2),
    dropouts=Uniform(0.0, 0.7),
    momenta=(0.0,),
    init_stds=LogUniform(1e-3, 0.5),
    train_fractions=Choice((0.1, 0.25, 0.5, 1.0)),
    seeds=30_000,
)
# Scaled to [-1, 1].
_MNIST = DataSpec("mnist", 28, 1, 0.5, 0.5, train=50_000, val=10_000)
_CIFAR = DataSpec("cifar10", 32, 1, 0.5, 0.5, train=40_000, val=10_000)
_SVHN = DataSpec("svhn_cropped", 32, 1, 0.5, 0.5, train=63_257, val=10_000)


def _zoo(data: DataSpec, architecture: str) -> Preset:
    return Preset(architecture, data, _SEARCH, epochs=86, batch_size=512)


SMALL_CNN_ZOO = {
    "mnist-gap-search": _zoo(_MNIST, "gap_cnn"),
    "fmnist-gap-search": _zoo(replace(_MNIST, name="fashion_mnist"), "gap_cnn"),
    "cifar10-gap-search": _zoo(_CIFAR, "gap_cnn_32"),
    "svhn-gap-search": _zoo(_SVHN, "gap_cnn_32"),
}
