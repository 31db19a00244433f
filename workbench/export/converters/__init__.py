"""Converters of other frameworks: what runs inside their environments, and our side of the conversation.

`child`, `paddle_converter` and `tensorflow_converter` are scripts for another Python; they import nothing of the
workbench. `calling` starts them.
"""
