"""Evaluation: how faithful sparse decoding is to the dense model."""
