"""The parts of an algorithm that are no layers: priors, coders, assigners, samplers, losses, post-processing."""
