"""What lies beside a cell's record: its arrays, and what of its losses they say."""
