import os
import sys

print("the last words")
sys.stdout.close()
sys.stderr.write("still here\n")
try:
    print("nobody hears this")
except ValueError as error:
    sys.stderr.write(f"{error}\n")
os.close(2)
