"""Prior generators: the points or anchors at which a head predicts. Plain objects without state."""
