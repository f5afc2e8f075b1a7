"""`zoojax bench`: speed compared with PyTorch and plain JAX, in one run."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from zoojax.cli.options import Flag, option
from zoojax.runtime.startup import configure_jax

Architecture = Literal["small", "medium", "large", "lenet5", "gap_cnn", "mlp", "siren"]


@dataclass(frozen=True)
class Bench:
    """Measure the speed of training and evaluation, compared with PyTorch and plain JAX.

    All backends use the same synthetic images. Their measurements alternate, and exclude
    compilation and warm-up. A sample is one image (of siren, one pixel) seen by one member; for the
    kind "representation", one state seen by the autoencoder of the preset "small".
    Example: zoojax bench --architectures small large --batch-sizes 10 64
    """

    OLD_OPTIONS: ClassVar = {"--growth": "--member-scaling", "--scaling": "--device-scaling"}

    architectures: tuple[Architecture, ...] = ("small",)
    """Architectures to measure; mlp has two hidden layers of 64 units, and siren learns images of
    28x28 pixels, with all pixels in each step."""

    kinds: Annotated[tuple[str, ...] | None, option("KIND ...")] = None
    """What to measure (default: dense, mp, vd, evaluate and representation): training of members
    without sparsification (dense) or with a sparsifier (its abbreviation in lower case, such as
    mp), evaluation of members (evaluate), and training of a hyper-representation
    (representation)."""

    batch_sizes: Annotated[tuple[int, ...], option("N ...")] = (10,)
    """Images per step."""

    members: Annotated[tuple[int, ...], option("N ...")] = (16, 64)
    """Members to train at once with torch.func.vmap and jax.vmap."""

    repetitions: Annotated[int, option("N")] = 5
    """Number of measurements; the median and the range are shown."""

    seconds: Annotated[float, option("SECONDS")] = 3.0
    """Length of each measurement."""

    chunk: Annotated[int | None, option("N")] = None
    """Members that a core or GPU trains at once (default: chosen for this machine)."""

    member_scaling: Annotated[tuple[int, ...], option("N ...")] = ()
    """Also train zoos with these numbers of members, each in a separate process, and show
    the time per epoch, the time to save it, and the memory."""

    device_scaling: Flag = False
    """Also train zoos on several devices and processes, and show the scaling efficiency."""

    out: Annotated[Path | None, option("FILE")] = None
    """Also write the results to this Markdown file."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Measures all cases and prints one row per case and backend."""
        configure_jax()
        import polars as pl

        from zoojax.cli.terminal import say, show_json, show_rows
        from zoojax.experiments.bench import formatting
        from zoojax.experiments.bench.benchmark import bench

        result = bench(
            architectures=self.architectures,
            kinds=self.kinds,
            batch_sizes=self.batch_sizes,
            members=self.members,
            repetitions=self.repetitions,
            seconds=self.seconds,
            chunk=self.chunk,
            member_scaling=self.member_scaling,
            device_scaling=self.device_scaling,
            out=self.out,
        )
        if self.json:
            products = {"gflops": result.gflops, "median": statistics.median(result.gflops)}
            tables = {
                "rows": result.rows,
                "growth": result.member_scaling,
                "scaling": result.device_scaling,
            }
            memory = {
                "gigabytes": result.gigabytes,
                "median": statistics.median(result.gigabytes),
            }
            facts = {**result.facts, "matrix products": products, "memory": memory}
            show_json({**facts, **tables})
            return
        say(*(f"{name}: {value}" for name, value in formatting.facts(result).items()))
        for rows in formatting.tables(result):
            show_rows(pl.DataFrame(rows))
