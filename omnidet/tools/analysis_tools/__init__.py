"""MMDetection's `tools/analysis_tools`: doors to `omnidet analyze`."""
