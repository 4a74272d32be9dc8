"""Statistics alone: numbers in, numbers out."""
