"""Torch modules of the two graphs, and the swap of a model's parts for semantic operators."""
