"""The engine beside the published way of computing, case by case: `python -m benchmarks.engine`."""
