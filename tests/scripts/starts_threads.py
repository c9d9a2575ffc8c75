import sys
import threading


def work(number):
    results[number] = sum(range(number * 1000))
    if number == 3:
        raise ValueError("thread three fails")


results = {}
threads = [threading.Thread(target=work, args=(n,), name=f"worker-{n}") for n in range(5)]
for thread in threads:
    thread.start()
    thread.join()
print(results, threading.active_count(), file=sys.stdout)


def at_the_end():
    threading.main_thread().join()
    print("a thread that outlives the main one")


threading.Thread(target=at_the_end).start()
