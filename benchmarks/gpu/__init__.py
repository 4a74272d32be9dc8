"""What only a GPU can show, in stages of a few minutes: see `benchmarks.gpu.__main__`."""
