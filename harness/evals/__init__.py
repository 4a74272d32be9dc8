"""Trained models in use: load, evaluate, sample from, export."""
