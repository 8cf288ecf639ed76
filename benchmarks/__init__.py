"""Measurements: speed and memory (`python -m benchmarks`), quality, storage, remote faults."""
