"""How torch files store the members of each sparsifier, and the layers of each network.

A sparsifier's tensors are described by a `SparsifierLayout` in a module of its own, entered in
`registry.LAYOUTS` under the sparsifier's name.
"""
