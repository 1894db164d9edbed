"""The chains that the benchmarks run."""
