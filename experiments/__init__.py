"""Scripts that reproduce the tables and figures of "Sparsified Model Zoo Twins".

Schürholt et al., arXiv 2304.13718. One script per table or figure:

    python -m zoojax.experiments.table2 --members 64 --out runs/paper

Scripts with the same --out share their zoos. `bench` holds what `zoojax bench` measures.
"""
