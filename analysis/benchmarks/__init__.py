"""What trained models answered to benchmarks, with verdicts as honest as those on the loss."""
