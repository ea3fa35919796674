"""What leaves a process: files, lines on a terminal, tables.

Files are written whole or not at all, and text from outside (corpora, names,
other programs) can steer neither a terminal nor a spreadsheet. Imports nothing
of the package.
"""
