"""Shared parts of the speed benchmarks: clocks, reports, problems and peers."""
