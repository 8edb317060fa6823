"""Second stages: heads that look at regions of interest (RoIs), and the one driver that they share."""
