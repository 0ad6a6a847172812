"""Times our models and input pipeline beside other implementations: `python -m benchmarks`."""
