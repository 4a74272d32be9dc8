"""Equally and unequally noisy arms, averaged: the default judgement of differences."""
