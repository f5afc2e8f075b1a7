"""Captions of the tables of an analysis."""

import polars as pl

from zoojax.analysis.added_tables import added_tables
from zoojax.analysis.agreement_tables import REFERENCE_SPARSITY
from zoojax.analysis.geometry_tables import CURVED_IMAGES, CURVED_MEMBERS
from zoojax.analysis.geometry_tables import MEMBERS as GEOMETRY_MEMBERS
from zoojax.analysis.method_comparison import MAX_BRACKET
from zoojax.analysis.prunability import MIN_PREDICTED
from zoojax.analysis.rank_correlation import MIN_MEMBERS, TOO_FEW
from zoojax.analysis.results import Analysis
from zoojax.text import printable

_MAX_NAME_LENGTH = 100
_INTERVALS = (
    f'with 95 % percentile intervals (bootstrap of members); "{TOO_FEW}" below {MIN_MEMBERS}'
)
_OVER_MEMBERS = "with 95 % percentile intervals (bootstrap of members)"
# How the epoch is chosen that represents a sparsity.
SMOOTHED = (
    f"the epoch whose mean sparsity is nearest to {REFERENCE_SPARSITY:.0%}, on the curve of mean "
    "sparsity averaged over neighboring epochs"
)
_SAMPLED = "Sampled agreement is that of twins with the noise of training and without a threshold."
_COMPARED = (
    "Twins with pruning ratios are taken at their last epoch, twins whose sparsity varies with the "
    f"epoch at {SMOOTHED}."
)
_CAPTIONS = {
    "members": "Accuracy, generalization gap (train minus test accuracy) and sparsity of every "
    "member at every epoch, with its hyperparameters and its parent in the dense zoo.",
    "trajectories": "Mean and standard deviation over members of accuracy, generalization gap "
    "(train minus test accuracy) and sparsity, by pruning ratio and epoch.",
    "layer_sparsity": "Fraction of the weights of each layer (without biases) that are zero: mean "
    "and standard deviation over members, by pruning ratio and epoch.",
    "hyperparameters": "Accuracy, generalization gap and sparsity at the last epoch: mean and "
    "standard deviation over the members that share the value of a hyperparameter.",
    "pruning_frequency": "Fraction of members in which each single weight is zero.",
    "agreement": "Agreement of each twin with its parent: fraction of test images for which both "
    f"predict the same class. {_SAMPLED}",
    "agreement_summary": "Agreement of twins with their parents (fraction of test images for which "
    "both predict the same class), accuracy and sparsity: mean and standard deviation over "
    f"members. {_SAMPLED}",
    "correlation": "Correlation over members of test accuracy before and after sparsification: "
    f"Pearson's r and Kendall's tau-b, {_INTERVALS}.",
    "pairings": "Correlation of a twin's test accuracy with that of its parent, and with its own "
    f"running train accuracy: Pearson's r and Kendall's tau-b, {_INTERVALS}; also pooled over "
    "epochs, and over pruning ratios.",
    "friendliness": "Test accuracy of each member before and after sparsification, its change, the "
    "rank of the change (1 lost least) within method and pruning ratio, and its group: friendly "
    f"(the tenth that lost least) or hard (the tenth that lost most). {_COMPARED}",
    "consistency": "Whether the same members lose accuracy in two populations of twins: Kendall's "
    f"tau-b of their changes of test accuracy, {_INTERVALS}; and the fraction of the friendly "
    f"members of the first that are also friendly in the second (by chance 10 %). {_COMPARED}",
    "predictability": "How well properties of twins are predicted from their parents: R² and "
    "Kendall's tau-b between predicted and true values in five-fold cross-validation. Predictors: "
    "ridge regression on statistics of each layer's weights, and linear regression on dense "
    f'accuracy. "{TOO_FEW}" below {MIN_PREDICTED}. {_COMPARED}',
    "change_by_hyperparameters": "Test accuracy before and after sparsification and its change, "
    "over the members that share the value of a hyperparameter: mean and standard deviation; and "
    f"the correlation of accuracy before and after within these members, {_INTERVALS}. {_COMPARED}",
    "methods": "Difference of the test accuracies of two methods at equal sparsity: mean over the "
    "members that reach the sparsity with both, with its 95 % interval (BCa bootstrap of members; "
    "Student's t below 20). Accuracy of a method whose sparsity varies with the epoch is "
    "interpolated linearly to the epoch at which the member first reaches the sparsity.",
    "crossing": "Crossover of two methods: the neighboring measured pruning ratios between which "
    "the mean difference of their test accuracies falls from positive to zero or less, and the "
    "differences there. The sparsity in between is interpolated only if the two ratios are at most "
    f"{100 * MAX_BRACKET:.0f} points apart.",
    "paper": "Values of the paper (arXiv 2304.13718) for this zoo and those of this analysis: mean "
    "and standard deviation over members.",
    "geometry_similarity": "Weight space by epoch: effective dimension (participation ratio of the "
    "covariance of the parameters over members), mean distance and mean cosine of two members, "
    "with 95 % intervals (jackknife over members), and mean distance of members from their state "
    "at the first epoch.",
    "geometry_pairs": "Euclidean distance and cosine of all parameters of every pair of members at "
    f"the last epoch (the first {GEOMETRY_MEMBERS} members).",
    "geometry_layers": "Linear CKA of the outputs of layers before the activation, on training "
    f"images: mean over pairs of different members (of the first {GEOMETRY_MEMBERS}), with 95 % "
    "intervals (jackknife over members).",
    "geometry_curvature": f"Curvature of the loss on {CURVED_IMAGES} training images at the last "
    "epoch, over all parameters that are not pruned: loss, trace of the Hessian (Hutchinson's "
    f"estimate) and largest eigenvalue; means over the first {CURVED_MEMBERS} members and their "
    "twins, with 95 % intervals.",
    "geometry_eigenvalues": f"Largest eigenvalues of the Hessian of the loss on {CURVED_IMAGES} "
    "training images at the last epoch, by rank: means over members, with 95 % intervals.",
    "geometry_barriers": "Barriers on straight lines in weight space, on test images: largest "
    "increase of the loss over its linear interpolation between the ends, and largest decrease of "
    "the accuracy below its interpolation. Lines between a parent and its twin, between two dense "
    "members, and between the twins of two members, before and after one end is aligned to the "
    "other (target). Means over lines, with 95 % intervals.",
    "geometry_masks": "Overlap of the masks of pairs of members (intersection over union of the "
    "kept weights): without alignment (iou), after the parent of one is aligned to that of the "
    "other (aligned), expected for independent masks with the same counts in each layer (chance), "
    "and for parents whose weights are shuffled within each layer before they are aligned "
    "(shuffled). Means over pairs, with 95 % intervals.",
    "geometry_transfer": "Mask transfer: test accuracy of members pruned with their own mask, with "
    "that of another member, aligned or not, and with that mask shuffled within each layer; "
    "without fine-tuning (epoch 0) and after it. Differences are relative to the own and the "
    "random mask of the same member. Means over members, with 95 % intervals.",
    "representation_summary": "R² on held-out members of the weights and alphas that the "
    "hyper-representation reconstructs, and of model properties that are predicted from its "
    "embeddings and from other features, by ridge regression unless stated otherwise; "
    f"{_OVER_MEMBERS}.",
    "representation_reconstruction": "R² of the weights, alphas and log alphas of each layer that "
    f"the hyper-representation reconstructs, by part of the split, {_OVER_MEMBERS}.",
    "representation_properties": "Model properties predicted from the embeddings of the "
    "hyper-representation and from other features, by ridge regression unless stated otherwise: R² "
    "and Kendall's tau on held-out members. Within epochs, the mean of the training members at the "
    f"same epoch is subtracted from the property. {_OVER_MEMBERS.capitalize()}.",
    "representation_differences": "R² and Kendall's tau of the embeddings minus those of other "
    "features, on the same held-out members, with 95 % percentile intervals (paired bootstrap of "
    "members).",
    "representation_functional_summary": "Accuracy of the originals and of their reconstructions, "
    "their difference (change), and agreement (fraction of test images for which both predict the "
    "same class): with all weights, and thresholded by the decoded log alphas. Means over held-out "
    "members, with 95 % intervals.",
    "representation_embeddings": "Embeddings of all states in two principal components, with the "
    "properties of the states.",
    "representation_scatter": "True and reconstructed weights and log alphas of held-out members "
    "(a sample).",
    "representation_losses": "Loss of the hyper-representation's autoencoder and its terms, by "
    "training epoch.",
}
_OWN_IMAGE_CAPTIONS = {
    "members": "Mean squared error, PSNR (in dB, for a peak of 1) and sparsity of every member at "
    "every epoch, with its hyperparameters and its parent in the dense zoo.",
    "trajectories": "Mean and standard deviation over members of PSNR (in dB) and sparsity, by "
    "pruning ratio and epoch.",
    "hyperparameters": "PSNR (in dB) and sparsity at the last epoch: mean and standard deviation "
    "over the members that share the value of a hyperparameter.",
}


def table_captions(analysis: Analysis) -> dict[str, str]:
    """Captions of the tables of an analysis, which also state the number of members.

    Args:
        analysis: The analysis.

    Returns:
        One caption per table in `Analysis.tables`.
    """
    own = _OWN_IMAGE_CAPTIONS if analysis.zoo.config.shape.task.has_own_images else {}
    about = _CAPTIONS | own | {each.key: f"{each.title}. {each.about}" for each in added_tables()}
    members = about_members(analysis)
    return {name: f"{about[name]} {members}" for name in analysis.tables if name in about}


def about_members(analysis: Analysis) -> str:
    """Names the zoo and counts its members, and those that diverged.

    Args:
        analysis: The analysis.

    Returns:
        One or two sentences.
    """
    count, table = len(analysis.zoo), analysis.tables["members"]
    name = printable(analysis.zoo.config.name, _MAX_NAME_LENGTH)
    text = f"Zoo {name}, n = {count:,} {'member' if count == 1 else 'members'}."
    excluded = []
    for method in analysis.methods:
        rows = table.filter(pl.col("method") == method.key)
        diverged = rows.filter(~pl.col("finite"))["member"].n_unique()
        if diverged:
            excluded.append(f"{diverged:,} of {len(method.zoo):,} ({printable(method.label)})")
    if excluded:
        text += f" Excluded after divergence: {', '.join(excluded)}."
    return text
