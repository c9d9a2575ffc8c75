import os

print("never printed"
for x in range(3):
    print(x)
