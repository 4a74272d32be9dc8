"""What evaluated models answered to benchmarks, with verdicts, and lost at each token of a text."""
