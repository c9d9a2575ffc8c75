"""A report with arguments."""
import argparse
import json

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rows", type=int, default=5)
parser.add_argument("--name", default="none")
parser.add_argument("rest", nargs="*")
args = parser.parse_args()
print(json.dumps({"prog": parser.prog, **vars(args)}))
print(parser.format_help())
