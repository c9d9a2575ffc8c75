import importlib

import helper_functions
from helper_package import tools
from helper_package.tools import double

print(helper_functions.NAME, helper_functions.__file__.rpartition("/")[2], double(21), tools.__package__)
print(importlib.import_module(".tools", "helper_package") is tools)
