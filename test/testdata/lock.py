"""Holds the write lock of an SQLite database until its standard input ends.

usage: lock.py DATABASE
Prints "locked" when it has the lock.
"""

import sqlite3
import sys

database = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
database.execute("ROLLBACK")
