"""From feature maps and boxes to one small map for each box."""
