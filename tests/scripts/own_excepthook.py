import sys
import traceback


def hook(kind, value, tb):
    print("hook:", kind.__name__, value, [f.name for f in traceback.extract_tb(tb)], file=sys.stderr)


sys.excepthook = hook


def deeper(n):
    return deeper(n - 1) if n else {}["answer"]


deeper(3)
