import os
import subprocess
import sys

print(subprocess.run([sys.executable, "-c", "import sys; print(sys.path[0] == '', sys.argv, sys.flags.no_site)"],
                     capture_output=True, text=True).stdout)
print(subprocess.run("echo shell; exit 4", shell=True, capture_output=True))
pid = os.fork()
if pid == 0:
    print("child", flush=True)
    os._exit(5)
print("parent saw", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
