"""What an application does with `libsql`, the Rust driver with Python around it, which speaks Hrana 3,
against two nodes of one cluster.

python python3.py OWNER OTHER TOKEN
"""

import sys

import libsql

owner, other, token = sys.argv[1:]


def fails(work, *parts):
    try:
        work()
    except ValueError as error:
        assert all(part in str(error) for part in parts), error
    else:
        raise AssertionError(f"{parts} was expected")


def count(connection):
    return connection.execute("SELECT count(*) FROM rs").fetchone()[0]


def connect(url, **more):
    return libsql.connect(url, auth_token=token, **more)


def use(url):
    # Each statement by itself.
    alone = connect(url, isolation_level=None)
    alone.execute("CREATE TABLE rs (id INTEGER PRIMARY KEY, name TEXT UNIQUE, real REAL, bytes BLOB)")
    # The driver makes floats of larger integers.
    big, blob = 2**31 - 1, bytes(range(256))
    alone.execute("INSERT INTO rs VALUES (?, ?, ?, ?)", (big, "é\n\"\\", -0.1, blob))
    row = alone.execute("SELECT * FROM rs WHERE id = ?", (big,)).fetchone()
    assert row == (big, "é\n\"\\", -0.1, blob), row
    assert [column[0] for column in alone.execute("SELECT id, name AS n FROM rs").description] == ["id", "n"]
    fails(lambda: alone.execute("INSERT INTO rs (name) SELECT name FROM rs"), "UNIQUE constraint failed: rs.name")
    fails(lambda: alone.execute("SELECT * FROM nosuch"), "no such table: nosuch")
    fails(lambda: alone.execute("SELECT ?"), "no value is given")
    alone.executescript("DELETE FROM rs; INSERT INTO rs (id) VALUES (1); INSERT INTO rs (id) VALUES (2);")
    assert count(alone) == 2

    # As the standard of Python has it: a transaction begins by itself, and ends by a call.
    inside = connect(url)
    inside.execute("INSERT INTO rs (id) VALUES (3)")
    assert inside.in_transaction
    assert count(inside) == 3
    assert count(alone) == 2, "nobody else sees it"
    inside.execute("ALTER TABLE rs ADD COLUMN more TEXT DEFAULT 'm'")
    assert inside.execute("SELECT more FROM rs").fetchone() == ("m",)
    inside.commit()
    assert not inside.in_transaction
    assert count(alone) == 3
    inside.execute("DELETE FROM rs")
    fails(lambda: inside.execute("INSERT INTO rs (id) SELECT 'x'"), "datatype mismatch")
    inside.rollback()
    assert count(alone) == 3
    inside.executemany("INSERT INTO rs (name) VALUES (?)", [("a",), ("b",)])
    inside.commit()
    assert count(alone) == 5
    alone.execute("DROP TABLE rs")


def credentials(url):
    wrong = libsql.connect(url, auth_token="quorate_wrong")
    fails(lambda: wrong.execute("SELECT 1"), "AUTH_")


for url in (owner, other):
    use(url)
    credentials(url)
print("all done")
