"""Scripts for the Pythons of other environments, which import nothing of the workbench; `calling.py` starts them."""
