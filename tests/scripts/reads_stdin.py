import sys

total = 0
for number, line in enumerate(sys.stdin, 1):
    total += len(line.split())
    print(f"{number}: {line.strip()}")
print("words:", total, "tty:", sys.stdin.isatty())
