"""Pytest plugins that run the tests of skrub and scikit-learn through the engine."""
