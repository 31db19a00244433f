"""The commands of the shell: each returns what --json prints and the text that people read."""
