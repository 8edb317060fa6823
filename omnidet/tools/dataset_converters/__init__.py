"""MMDetection's `tools/dataset_converters`."""
