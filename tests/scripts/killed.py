import os
import signal

print("about to go", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
