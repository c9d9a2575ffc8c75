def load(path):
    try:
        return open(path).read()
    except FileNotFoundError as error:
        raise RuntimeError(f"cannot load {path}") from error


def main():
    return load("missing.csv")


if __name__ == "__main__":
    main()
