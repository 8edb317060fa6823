"""MMDetection's `tools/misc`."""
