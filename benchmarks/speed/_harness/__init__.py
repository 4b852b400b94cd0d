"""What the speed benchmarks share: clocks, reports, problems and peers."""
