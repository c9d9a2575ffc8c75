"""What tests of several files stand on."""

import os

import pytest

# What is compared here is compared bit for bit; tests of kernels that round otherwise say so.
os.environ.setdefault("STRATUM_EXACTNESS", "identical")

# Calls are counted here, and what is kept for the next run depends on how long it took: tests of reuse say what is
# kept, the differential harness keeps everything.
os.environ.setdefault("STRATUM_REUSE_SECONDS", "3600")


@pytest.fixture
def no_evaluator(monkeypatch):
    """skrub's own evaluator does not work here."""
    import stratum  # noqa: F401
    from skrub._data_ops import _evaluation

    def handle_data_op(self, data_op):
        raise AssertionError(f"skrub's evaluator was asked for {data_op._skrub_impl!r}")

    monkeypatch.setattr(_evaluation._Evaluator, "handle_data_op", handle_data_op)


# Of each table of cases the quick part takes one in so many: of the parity tests of kernels (over two thousand), and of
# all others.
QUICK_SHARE_OF_KERNELS = 16
QUICK_SHARE = 3


def pytest_collection_modifyitems(items):
    """Mark as slow what the quick part leaves out of tables; everything else runs it all."""
    seen = {}
    for item in items:
        if hasattr(item, "callspec"):
            number = seen[item.function] = seen.get(item.function, -1) + 1
            share = QUICK_SHARE_OF_KERNELS if item.path.name.startswith("test_native_") else QUICK_SHARE
            if number % share:
                item.add_marker(pytest.mark.slow)
