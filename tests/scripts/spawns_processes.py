import multiprocessing


def square(x):
    return x * x, __name__


if __name__ == "__main__":
    for method in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.map(square, range(4)))
