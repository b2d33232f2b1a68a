"""What an application does with `libsql-client`, which speaks Hrana 1, against two nodes of one cluster.

python python1.py OWNER OTHER TOKEN
"""

import asyncio
import sys

import libsql_client

owner, other, token = sys.argv[1:]


async def fails(work, code, part):
    try:
        await work
    except libsql_client.LibsqlError as error:
        assert error.code == code and part in str(error), f"{error.code}: {error}"
    else:
        raise AssertionError(f"{code} was expected")


async def use(url):
    # The driver loses the last part of a URL that does not end with a slash.
    async with libsql_client.create_client(url + "/", auth_token=token) as client:
        await client.execute(
            "CREATE TABLE py (id INTEGER PRIMARY KEY, name TEXT UNIQUE, real REAL, bytes BLOB)"
        )
        big, blob = 9223372036854775807, bytes(range(256))
        done = await client.execute(
            "INSERT INTO py VALUES (?, ?, ?, ?)", [big, "é\n\"\\\U0001f600", -0.1, blob]
        )
        assert done.rows_affected == 1 and done.last_insert_rowid == big
        read = await client.execute("SELECT * FROM py WHERE id = :id", {"id": big})
        assert read.columns == ("id", "name", "real", "bytes"), read.columns
        assert read.rows[0].astuple() == (big, "é\n\"\\\U0001f600", -0.1, blob), read.rows
        await fails(
            client.execute("INSERT INTO py (name) SELECT name FROM py"),
            "SQLITE_CONSTRAINT_UNIQUE",
            "py.name",
        )
        await fails(client.execute("SELECT * FROM nosuch"), "SQLITE_ERROR", "no such table")

        results = await client.batch(
            [
                "DELETE FROM py",
                libsql_client.Statement("INSERT INTO py (id, name) VALUES (?, ?)", [1, "a"]),
                "SELECT name FROM py",
            ]
        )
        assert results[2].rows[0][0] == "a" and results[1].rows_affected == 1
        await fails(
            client.batch(["INSERT INTO py (id) VALUES (2)", "INSERT INTO py (id) VALUES (1)"]),
            "SQLITE_CONSTRAINT_PRIMARYKEY",
            "py.id",
        )
        count = await client.execute("SELECT count(*) FROM py")
        assert count.rows[0][0] == 1, count.rows
        await client.execute("DROP TABLE py")


async def credentials(url):
    async with libsql_client.create_client(url + "/", auth_token="quorate_wrong") as client:
        try:
            await client.execute("SELECT 1")
        except libsql_client.LibsqlError as error:
            assert error.code in ("AUTH_REQUIRED", "AUTH_FORBIDDEN"), error.code
        else:
            raise AssertionError("a wrong token was let in")


async def main():
    for url in (owner, other):
        await use(url)
        await credentials(url)


asyncio.run(main())
print("all done")
