"""Heads that predict masks of instances without looking at regions."""
