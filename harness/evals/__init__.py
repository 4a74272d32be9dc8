"""Trained models in use: load, evaluate, sample from, tune, judge, export."""
