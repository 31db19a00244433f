"""The parts of the runner that goes along with a plan: `joining.py` makes one file of those that it needs.

They import numpy, the standard library and each other, and are written for whoever reads the joined file.
"""
