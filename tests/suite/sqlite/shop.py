"""A shop in SQLite with an invariant that only holds between whole transactions: what all accounts
have is what all entries say. By subcommand: makes one, writes to one until standard input ends,
looks at one. By Python's own SQLite, not by hucha's."""

import json
import random
import sqlite3
import sys
import threading
import time

ACCOUNTS = 100
# Bytes of noise in each entry.
NOISE = 300
# Seconds between two commits of a writer: SQLite's lock is not fair, and four writers that never
# let go of it would make each other wait without end.
PAUSE = 0.003


def make(path, journal, megabytes):
    shop = sqlite3.connect(path, isolation_level=None)
    shop.execute(f"PRAGMA journal_mode = {journal}")
    shop.executescript(
        """
        PRAGMA synchronous = OFF;
        CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
        CREATE TABLE entry (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL, noise BLOB);
        CREATE TABLE writer (id INTEGER PRIMARY KEY, commits INTEGER NOT NULL);
        CREATE INDEX by_amount ON entry (amount);
        """
    )
    noise = random.Random(1)
    rows = int(megabytes) * 1_000_000 // (NOISE + 20)
    shop.execute("BEGIN")
    shop.executemany("INSERT INTO account VALUES (?, 0)", ((n,) for n in range(ACCOUNTS)))
    shop.executemany("INSERT INTO writer VALUES (?, 0)", ((n,) for n in range(4)))
    entries = ((n, noise.randbytes(NOISE)) for n in range(rows))
    shop.executemany("INSERT INTO entry VALUES (?, 0, ?)", entries)
    shop.execute("COMMIT")


def write(path, number, patience):
    """Moves money until standard input ends; tells how long the longest transaction took, and how
    often a lock was waited for in vain."""
    number, patience = int(number), float(patience)
    shop = sqlite3.connect(path, timeout=patience, isolation_level=None)
    # What is measured is how long others block, not how slow the disk is.
    shop.execute("PRAGMA synchronous = OFF")
    entries = shop.execute("SELECT count(*) FROM entry").fetchone()[0]
    chance = random.Random(number)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    commits, refused, longest = 0, 0, 0.0
    while not ended.wait(PAUSE):
        amount, account = chance.randrange(1, 1000), chance.randrange(ACCOUNTS)
        entry = chance.randrange(entries)
        began = time.monotonic()
        try:
            shop.execute("BEGIN IMMEDIATE")
            shop.execute(
                "UPDATE account SET balance = balance + ? WHERE id = ?", (amount, account)
            )
            shop.execute(
                "UPDATE entry SET amount = amount + ?, noise = ? WHERE id = ?",
                (amount, chance.randbytes(NOISE), entry),
            )
            shop.execute("UPDATE writer SET commits = commits + 1 WHERE id = ?", (number,))
            shop.execute("COMMIT")
            commits += 1
        except sqlite3.OperationalError:
            refused += 1
            if shop.in_transaction:
                shop.execute("ROLLBACK")
        longest = max(longest, time.monotonic() - began)
    print(json.dumps({"commits": commits, "refused": refused, "longest": longest}))


def look(path):
    shop = sqlite3.connect(path)
    value = lambda sql: shop.execute(sql).fetchone()[0]
    found = {
        "integrity": value("PRAGMA integrity_check"),
        "balances": value("SELECT sum(balance) FROM account"),
        "amounts": value("SELECT sum(amount) FROM entry"),
        "commits": value("SELECT sum(commits) FROM writer"),
        "rows": value("SELECT count(*) FROM entry"),
    }
    print(json.dumps(found))


{"make": make, "write": write, "look": look}[sys.argv[1]](*sys.argv[2:])
