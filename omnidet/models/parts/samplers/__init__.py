"""Samplers: which of the assigned priors a loss sees. A sampler is called with an `Assignment` and returns one.

Letters: B images, N priors. A prior that is not sampled comes out as `ignored`, and not as `positive`.
"""
