"""zoojax: populations of neural networks as single batched JAX programs.

>>> zoo = zoojax.train_zoo(data=(images, labels), members=4, epochs=1, quiet=True)
>>> twin = zoojax.sparsify(zoo, zoojax.MagnitudePruning(ratios=(0.5, 0.9)), epochs=1, quiet=True)
>>> twin.metrics.columns[:2]  # polars frames
['member', 'epoch']
>>> twin.params(1)["fc1"]["kernel"].shape  # stacked Flax parameters
(8, 36, 20)

`train_zoo` and `sparsify` train whole populations, in memory or in a folder (`out`). `open_zoo`
opens a zoo from a folder. `apply`, `predict` and `evaluate` run its members, `analyze` compares a
zoo with its sparse twins, `train_representation` learns an autoencoder of its weights. `presets`
holds the zoos of the paper, and `functional` the training of one member for loops of your own.
"""

import importlib
from typing import TYPE_CHECKING, Any

from zoojax.errors import ZoojaxError

if TYPE_CHECKING:
    from zoojax import functional, geometry, presets
    from zoojax.api.dense import train_zoo
    from zoojax.api.inference import apply, evaluate, predict
    from zoojax.api.twins import sparsify
    from zoojax.architectures.base import Architecture
    from zoojax.architectures.registry import register_architecture
    from zoojax.datasets.specs import DataSpec, ImageSet
    from zoojax.hyper_representation.api import train_representation
    from zoojax.hyper_representation.representation import open_representation
    from zoojax.hyperparameters.draws import Choice, LogUniform, Uniform
    from zoojax.hyperparameters.grid import Grid
    from zoojax.logs.run_log import RunLog
    from zoojax.logs.tensorboard import TensorBoard
    from zoojax.publishing.publish import publish
    from zoojax.runtime.startup import initialize
    from zoojax.sparsifiers.base import Sparsifier
    from zoojax.sparsifiers.fisher import FisherPruning
    from zoojax.sparsifiers.gradual_magnitude import GradualMagnitude
    from zoojax.sparsifiers.grasp import GraSP
    from zoojax.sparsifiers.iterative_magnitude import IterativeMagnitude
    from zoojax.sparsifiers.l0 import L0
    from zoojax.sparsifiers.magnitude import MagnitudePruning
    from zoojax.sparsifiers.n_m import NMPruning
    from zoojax.sparsifiers.obs import OBS
    from zoojax.sparsifiers.random_pruning import RandomPruning
    from zoojax.sparsifiers.registry import register_sparsifier
    from zoojax.sparsifiers.rigl import RigL
    from zoojax.sparsifiers.score_pruning import ScorePruning
    from zoojax.sparsifiers.set import SET
    from zoojax.sparsifiers.snip import SNIP
    from zoojax.sparsifiers.static_sparse import StaticSparse
    from zoojax.sparsifiers.steps import Needs
    from zoojax.sparsifiers.straight_through import StraightThrough
    from zoojax.sparsifiers.structured import StructuredPruning
    from zoojax.sparsifiers.synflow import SynFlow
    from zoojax.sparsifiers.taylor import TaylorPruning
    from zoojax.sparsifiers.top_kast import TopKAST
    from zoojax.sparsifiers.variational_dropout import VariationalDropout
    from zoojax.sparsifiers.wanda import Wanda
    from zoojax.storage.concatenation import concat
    from zoojax.storage.zoo import Zoo, open_zoo
    from zoojax.weight_datasets.dataset import WeightDataset
    from zoojax.workflows.analyze import analyze
    from zoojax.workflows.info import info
    from zoojax.workflows.reproduce import reproduce

# Imported on first use: importing zoojax, and --help, should not wait for JAX.
_PUBLIC = {
    "Architecture": "architectures.base",
    "Choice": "hyperparameters.draws",
    "DataSpec": "datasets.specs",
    "FisherPruning": "sparsifiers.fisher",
    "GraSP": "sparsifiers.grasp",
    "GradualMagnitude": "sparsifiers.gradual_magnitude",
    "Grid": "hyperparameters.grid",
    "ImageSet": "datasets.specs",
    "LogUniform": "hyperparameters.draws",
    "IterativeMagnitude": "sparsifiers.iterative_magnitude",
    "L0": "sparsifiers.l0",
    "MagnitudePruning": "sparsifiers.magnitude",
    "NMPruning": "sparsifiers.n_m",
    "Needs": "sparsifiers.steps",
    "OBS": "sparsifiers.obs",
    "RandomPruning": "sparsifiers.random_pruning",
    "RigL": "sparsifiers.rigl",
    "RunLog": "logs.run_log",
    "SET": "sparsifiers.set",
    "SNIP": "sparsifiers.snip",
    "ScorePruning": "sparsifiers.score_pruning",
    "Sparsifier": "sparsifiers.base",
    "Uniform": "hyperparameters.draws",
    "StaticSparse": "sparsifiers.static_sparse",
    "StraightThrough": "sparsifiers.straight_through",
    "StructuredPruning": "sparsifiers.structured",
    "SynFlow": "sparsifiers.synflow",
    "TaylorPruning": "sparsifiers.taylor",
    "TensorBoard": "logs.tensorboard",
    "TopKAST": "sparsifiers.top_kast",
    "VariationalDropout": "sparsifiers.variational_dropout",
    "Wanda": "sparsifiers.wanda",
    "WeightDataset": "weight_datasets.dataset",
    "Zoo": "storage.zoo",
    "analyze": "workflows.analyze",
    "apply": "api.inference",
    "concat": "storage.concatenation",
    "evaluate": "api.inference",
    "info": "workflows.info",
    "initialize": "runtime.startup",
    "open_representation": "hyper_representation.representation",
    "open_zoo": "storage.zoo",
    "predict": "api.inference",
    "publish": "publishing.publish",
    "register_architecture": "architectures.registry",
    "register_sparsifier": "sparsifiers.registry",
    "reproduce": "workflows.reproduce",
    "sparsify": "api.twins",
    "train_representation": "hyper_representation.api",
    "train_zoo": "api.dense",
}
_MODULES = ("functional", "geometry", "presets")
# Functions of version 0.1, which warn.
_DEPRECATED = ("make_dense", "make_dropped_out", "make_pruned")

__all__ = [
    "L0",
    "OBS",
    "SET",
    "SNIP",
    "Architecture",
    "Choice",
    "DataSpec",
    "FisherPruning",
    "GraSP",
    "GradualMagnitude",
    "Grid",
    "ImageSet",
    "IterativeMagnitude",
    "LogUniform",
    "MagnitudePruning",
    "NMPruning",
    "Needs",
    "RandomPruning",
    "RigL",
    "RunLog",
    "ScorePruning",
    "Sparsifier",
    "StaticSparse",
    "StraightThrough",
    "StructuredPruning",
    "SynFlow",
    "TaylorPruning",
    "TensorBoard",
    "TopKAST",
    "Uniform",
    "VariationalDropout",
    "Wanda",
    "WeightDataset",
    "Zoo",
    "ZoojaxError",
    "analyze",
    "apply",
    "concat",
    "evaluate",
    "functional",
    "geometry",
    "info",
    "initialize",
    "open_representation",
    "open_zoo",
    "predict",
    "presets",
    "publish",
    "register_architecture",
    "register_sparsifier",
    "reproduce",
    "sparsify",
    "train_representation",
    "train_zoo",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("zoojax")
    if name in _MODULES:
        return importlib.import_module(f"zoojax.{name}")
    if name in _DEPRECATED:
        return getattr(importlib.import_module("zoojax.api.deprecated"), name)
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoojax' has no attribute '{name}'")
    return getattr(importlib.import_module(f"zoojax.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
