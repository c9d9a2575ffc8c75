"""What runs on the Python side: skrub's semantics, the operators, threads, searches."""
