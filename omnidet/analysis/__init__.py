"""What the tools behind `omnidet analyze` compute: of models, data sets, logs, and results that were written down."""
