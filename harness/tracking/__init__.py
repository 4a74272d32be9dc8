"""Mirrors of the records: W&B and trackio, live or from the files afterwards."""
