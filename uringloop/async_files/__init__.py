"""Files without blocking the loop: what uringloop.open and uringloop.files are made of.

From the outside in: opening.py; binary.py and text.py, the two kinds of file object; buffer.py,
what is between them and the descriptor; requests.py and threads.py, the two ways to ask the
kernel. Nothing here is imported by the event loop.
"""
