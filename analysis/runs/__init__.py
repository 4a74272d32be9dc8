"""What comes in: records, tables, W&B projects, and what became of each run."""
