"""Trained weights by name: those of a cell, and those of GPT-2-shaped models of the hub."""
