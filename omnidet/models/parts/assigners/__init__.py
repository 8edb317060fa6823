"""Assigners: which ground truth each prior answers for. Plain functions of tensors, batched over images."""
