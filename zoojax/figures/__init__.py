"""Static figures of an analysis as SVG and PNG: those of the paper, and more.

    from zoojax import analysis, figures, open_zoo

    result = analysis.analyze(open_zoo("zoos/usps"), [open_zoo("zoos/usps-vd")])
    figures.draw(result, Path("figures"))
    figures.captions(result)["trajectories"]

SVG files have a transparent background, and axes and texts in the text color of the page that
includes them.
"""

import functools
import io
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from zoojax.analysis import Analysis
from zoojax.analysis.export import write_captions
from zoojax.figures.agreement import agreement_matrix
from zoojax.figures.basins import geometry_barriers, geometry_masks, geometry_transfer
from zoojax.figures.before_after import correlation, correlation_over_sparsity, predictability
from zoojax.figures.comparison import (
    mask_overlap,
    method_accuracy,
    method_layers,
    method_ranking,
)
from zoojax.figures.geometry import (
    geometry_curvature,
    geometry_layers,
    geometry_pairs,
    geometry_similarity,
)
from zoojax.figures.representation import (
    representation_losses,
    representation_map,
    representation_reconstruction,
)
from zoojax.figures.representation_scores import representation_scores
from zoojax.figures.style import Drawing, styled
from zoojax.figures.svg import themed
from zoojax.figures.trajectories import accuracy_over_sparsity, methods, trajectories
from zoojax.figures.weights import (
    further_pruning_frequencies,
    layer_size,
    pruning_frequency,
)
from zoojax.filesystem.atomic import atomic_write, make_folder, os_errors
from zoojax.filesystem.reading import entries
from zoojax.text import printable

__all__ = ["FIGURES", "captions", "draw", "drawings", "save"]

# Drawing functions by name. `draw` adds "pruning_frequency_KEY" for each further twin.
FIGURES: dict[str, Drawing] = {
    "trajectories": trajectories,
    "pruning_frequency": pruning_frequency,
    "layer_size": layer_size,
    "accuracy_over_sparsity": accuracy_over_sparsity,
    "agreement_matrix": agreement_matrix,
    "correlation": correlation,
    "correlation_over_sparsity": correlation_over_sparsity,
    "methods": methods,
    "method_accuracy": method_accuracy,
    "method_ranking": method_ranking,
    "mask_overlap": mask_overlap,
    "method_layers": method_layers,
    "predictability": predictability,
    "geometry_pairs": geometry_pairs,
    "geometry_similarity": geometry_similarity,
    "geometry_layers": geometry_layers,
    "geometry_curvature": geometry_curvature,
    "geometry_barriers": geometry_barriers,
    "geometry_masks": geometry_masks,
    "geometry_transfer": geometry_transfer,
    "representation_map": representation_map,
    "representation_scores": representation_scores,
    "representation_reconstruction": representation_reconstruction,
    "representation_losses": representation_losses,
}
_FURTHER = "pruning_frequency_"
# Dots per inch; in SVG files only for rasterized elements.
_DPI = {"svg": 150, "png": 200}


def draw(analysis: Analysis, folder: Path) -> list[Path]:
    """Draws every figure that the tables of the analysis allow.

    Args:
        analysis: the analysis.
        folder: output folder; created if it does not exist.

    Returns:
        Paths of the PNG files, `<name>.png`; each has an SVG file of the same name. The folder
        also has their captions, in captions.md.

    Raises:
        ZoojaxError: a file cannot be written.
    """
    make_folder(folder)
    drawn, texts = [], {}
    for name, drawing in _all(analysis).items():
        figure = drawing(analysis)
        if figure is not None:
            texts[name] = drawing.caption(analysis)
            drawn.append(save(figure, folder, name, texts[name]))
    write_captions(folder, texts)
    # Figures of an earlier analysis would seem to belong to this one.
    names = {path.stem for path in drawn}
    with os_errors(folder):
        for file in entries(folder):
            name, _, suffix = file.rpartition(".")
            known = name in FIGURES or name.startswith(_FURTHER)
            if known and suffix in _DPI and name not in names:
                (folder / file).unlink()
    return drawn


def captions(analysis: Analysis) -> dict[str, str]:
    """Returns the captions of FIGURES, and of those of further twins.

    Args:
        analysis: the analysis.

    Returns:
        Plain text by name of the figure; also of figures whose tables are missing.
    """
    return {name: drawing.caption(analysis) for name, drawing in _all(analysis).items()}


def drawings(analysis: Analysis) -> dict[str, Callable[[], Figure | None]]:
    """Returns functions that draw FIGURES of an analysis, and those of further twins.

    Args:
        analysis: the analysis.

    Returns:
        The functions by name, in the order of the report page; they return None if tables
        are missing.
    """
    return {name: functools.partial(drawing, analysis) for name, drawing in _all(analysis).items()}


def _all(analysis: Analysis) -> dict[str, Drawing]:
    result: dict[str, Drawing] = {}
    for name, drawing in FIGURES.items():
        result[name] = drawing
        if name == "pruning_frequency":
            further = further_pruning_frequencies(analysis)
            result |= {f"{_FURTHER}{key}": each for key, each in further.items()}
    return result


def save(figure: Figure, folder: Path, name: str, caption: str = "") -> Path:
    """Writes a figure as `<name>.svg` and `<name>.png`.

    Args:
        figure: the figure.
        folder: an existing folder.
        name: file name without suffix.
        caption: what the figure shows; the description of both files.

    Returns:
        Path of the PNG file.

    Raises:
        ZoojaxError: a file cannot be written.
    """
    drawn = io.StringIO()
    with styled():
        figure.savefig(drawn, format="svg", dpi=_DPI["svg"])
    svg = themed(drawn.getvalue(), name, caption)

    def write_png(path: Path) -> None:
        # Without the version of matplotlib, so that the same analysis gives the same bytes.
        metadata = {"Software": None, "Description": printable(caption, 2000)}
        with styled():
            figure.savefig(
                path, format="png", dpi=_DPI["png"], facecolor="white", metadata=metadata
            )

    atomic_write(folder / f"{name}.svg", lambda path: path.write_text(svg, "utf-8"), durable=False)
    atomic_write(folder / f"{name}.png", write_png, durable=False)
    return folder / f"{name}.png"
