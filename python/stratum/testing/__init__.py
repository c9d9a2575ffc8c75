"""Help for testing with stratum: the pytest plugin `stratum.testing.skrub_plugin`."""
