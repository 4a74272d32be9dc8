"""Every arm against the baseline: the one road from runs to verdicts."""
