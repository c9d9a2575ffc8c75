import atexit
import sys

atexit.register(print, "at exit, first registered")
atexit.register(print, "at exit, last registered")
try:
    sys.exit(7)
finally:
    print("cleaning up")
