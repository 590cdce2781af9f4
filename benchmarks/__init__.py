"""Benchmarks of quality §3: `python -m benchmarks [--quick]`."""
