"""Benchmark of artifacts: speed, memory and quality, beside other runtimes in the same rounds.

Nothing here imports an engine: every contestant runs in a process of its own (:mod:`.workers`).
"""
