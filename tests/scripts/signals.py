import os
import signal
import time

got = []
signal.signal(signal.SIGUSR1, lambda number, frame: got.append((number, frame.f_code.co_name)))
signal.signal(signal.SIGALRM, lambda number, frame: got.append("alarm"))


def main():
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while len(got) < 2:
        time.sleep(0.005)
    print(got, signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGPIPE))
    print(signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(0, []))


main()
