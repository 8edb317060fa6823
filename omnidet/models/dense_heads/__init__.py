"""Dense heads: a folder for each family, with one driver each."""
