"""Static figures of an analysis as SVG and PNG: those of the paper, and more.

from zoojax import analysis, figures, open_zoo

result = analysis.analyze(open_zoo("zoos/usps"), [open_zoo("zoos/usps-vd")])
figures.draw(result, Path("figures"))
"""

import functools
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from zoojax.analysis import Analysis
from zoojax.figures.agreement import agreement_matrix
from zoojax.figures.before_after import correlation, correlation_over_sparsity, predictability
from zoojax.figures.representation import (
    representation_losses,
    representation_map,
    representation_reconstruction,
)
from zoojax.figures.style import styled
from zoojax.figures.trajectories import accuracy_over_sparsity, methods, trajectories
from zoojax.figures.weights import (
    further_pruning_frequencies,
    layer_size,
    pruning_frequency,
)
from zoojax.filesystem.atomic import atomic_write, make_folder, os_errors
from zoojax.filesystem.reading import entries

__all__ = ["FIGURES", "draw", "drawings", "save"]

# Drawing functions by name. `draw` adds "pruning_frequency_KEY" for each further twin.
FIGURES: dict[str, Callable[[Analysis], Figure | None]] = {
    "trajectories": trajectories,
    "pruning_frequency": pruning_frequency,
    "layer_size": layer_size,
    "accuracy_over_sparsity": accuracy_over_sparsity,
    "agreement_matrix": agreement_matrix,
    "correlation": correlation,
    "correlation_over_sparsity": correlation_over_sparsity,
    "methods": methods,
    "predictability": predictability,
    "representation_map": representation_map,
    "representation_reconstruction": representation_reconstruction,
    "representation_losses": representation_losses,
}
_FURTHER = "pruning_frequency_"
# Dots per inch; in SVG files only for rasterized elements.
_DPI = {"svg": 150, "png": 200}
# Without date and version, so that the same analysis gives the same bytes.
_METADATA = {"svg": {"Date": None}, "png": {"Software": None}}


def draw(analysis: Analysis, folder: Path) -> list[Path]:
    """Draws every figure that the tables of the analysis allow.

    Args:
        analysis: the analysis.
        folder: output folder; created if it does not exist.

    Returns:
        Paths of the PNG files, `<name>.png`; each has an SVG file of the same name.

    Raises:
        ZoojaxError: a file cannot be written.
    """
    make_folder(folder)
    drawn = []
    for name, draw_figure in drawings(analysis).items():
        figure = draw_figure()
        if figure is not None:
            drawn.append(save(figure, folder, name))
    # Figures of an earlier analysis would seem to belong to this one.
    names = {path.stem for path in drawn}
    with os_errors(folder):
        for file in entries(folder):
            name, _, suffix = file.rpartition(".")
            known = name in FIGURES or name.startswith(_FURTHER)
            if known and suffix in _DPI and name not in names:
                (folder / file).unlink()
    return drawn


def drawings(analysis: Analysis) -> dict[str, Callable[[], Figure | None]]:
    """Returns functions that draw FIGURES of an analysis, and those of further twins.

    Args:
        analysis: the analysis.

    Returns:
        The functions by name, in the order of the report page; they return None if tables
        are missing.
    """
    result: dict[str, Callable[[], Figure | None]] = {}
    for name, draw_figure in FIGURES.items():
        result[name] = functools.partial(draw_figure, analysis)
        if name == "pruning_frequency":
            further = further_pruning_frequencies(analysis)
            result |= {f"{_FURTHER}{key}": drawing for key, drawing in further.items()}
    return result


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Writes a figure as `<name>.svg` and `<name>.png`.

    Args:
        figure: the figure.
        folder: an existing folder.
        name: file name without suffix.

    Returns:
        Path of the PNG file.

    Raises:
        ZoojaxError: a file cannot be written.
    """
    for kind in _DPI:
        atomic_write(folder / f"{name}.{kind}", _writer(figure, kind), durable=False)
    return folder / f"{name}.png"


def _writer(figure: Figure, kind: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with styled():
            figure.savefig(path, format=kind, dpi=_DPI[kind], metadata=_METADATA[kind])

    return write
