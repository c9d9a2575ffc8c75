"""Capture: from skrub's lazy graphs to nodes of the engine, once for each operation."""
