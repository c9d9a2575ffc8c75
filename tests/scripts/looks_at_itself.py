"""A script that looks at itself."""
import inspect
import os
import sys


def where():
    return [(os.path.basename(f.filename), f.lineno, f.function) for f in inspect.stack()]


print(__name__, __doc__, os.path.basename(__file__), __spec__, __package__)
print(sorted(k for k in globals() if not k.startswith("_")), sys.modules["__main__"].__dict__ is globals())
print(sys.argv, os.path.basename(sys.path[0]), sys.orig_argv[1:], sys.flags)
print(where())
print(inspect.getsource(where))
print(sorted(k for k in os.environ if k.startswith(("PYTHON", "_"))))
print(len([p for p in sys.path if "stratum" in p]), sys.excepthook is sys.__excepthook__)
print("pandas" in sys.modules, "numpy" in sys.modules, "skrub" in sys.modules, "stratum" in sys.modules)
print(sys._getframe().f_back, type(__loader__).__name__)
