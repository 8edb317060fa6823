"""MMDetection's `tools/model_converters`."""
