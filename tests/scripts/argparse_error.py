import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, required=True)
parser.parse_args()
