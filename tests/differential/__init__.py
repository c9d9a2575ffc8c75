"""Random graphs through skrub and through stratum, each in its own process, compared bit by bit."""
