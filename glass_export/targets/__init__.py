"""Targets: one module (or package) per runtime that an artifact can be made for."""
