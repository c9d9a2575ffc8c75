import os
import sys

sys.stdout.write("lost, as it was never flushed")
os.write(1, b"written\n")
os._exit(3)
