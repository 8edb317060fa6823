"""Box coders: between boxes and what a head regresses at each prior. Plain objects without state."""
