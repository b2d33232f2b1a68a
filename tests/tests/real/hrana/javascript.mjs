// What an application does with the driver of JavaScript, against two nodes of one cluster.
// node javascript.mjs OWNER OTHER TOKEN

import assert from "node:assert/strict";
import { createClient } from "@libsql/client";

const [owner, other, authToken] = process.argv.slice(2);

// Each number that the driver sends is a float: columns with a type make integers of them.
const TABLE = `CREATE TABLE IF NOT EXISTS js (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, number INTEGER, real REAL, bytes BLOB)`;

async function rejects(promise, code, message) {
    await assert.rejects(promise, (error) => {
        assert.equal(error.code, code, `${error.code}: ${error.message}`);
        assert.match(error.message, message);
        return true;
    });
}

async function count(client) {
    return (await client.execute("SELECT count(*) FROM js")).rows[0][0];
}

async function statements(client) {
    const inserted = await client.execute({
        sql: "INSERT INTO js (name, number, real) VALUES (?, ?, ?)",
        args: ["Ada", 7, 1.5],
    });
    assert.equal(inserted.rowsAffected, 1);
    assert.equal(typeof inserted.lastInsertRowid, "bigint");
    // Another call is another stream: what was written before is there.
    const read = await client.execute({
        sql: "SELECT name, number, real FROM js WHERE id = :id",
        args: { id: inserted.lastInsertRowid },
    });
    assert.deepEqual(read.columns, ["name", "number", "real"]);
    assert.deepEqual(read.columnTypes, ["TEXT", "INTEGER", "REAL"]);
    assert.deepEqual(Array.from(read.rows[0]), ["Ada", 7, 1.5]);
    const returned = await client.execute("UPDATE js SET number = 8 RETURNING number");
    assert.equal(returned.rows[0].number, 8);
    const removed = await client.execute("WITH one AS (SELECT 'Ada' AS n) DELETE FROM js WHERE name IN one");
    assert.equal(removed.rowsAffected, 1);
    assert.equal(await count(client), 0);
}

async function values(client) {
    const exact = createClient({ url: client.url, authToken, intMode: "bigint" });
    const bytes = new Uint8Array(1000).map((_, at) => at % 256);
    const big = 9_223_372_036_854_775_807n;
    await exact.execute({
        sql: "INSERT INTO js (name, number, real, bytes) VALUES (?, ?, ?, ?)",
        args: ["é\n\"\\\u{1f600}", big, -0.1, bytes],
    });
    const row = (await exact.execute("SELECT name, number, real, bytes, NULL AS n FROM js")).rows[0];
    assert.equal(row.name, "é\n\"\\\u{1f600}");
    assert.equal(row.number, big);
    assert.equal(row.real, -0.1);
    assert.deepEqual(new Uint8Array(row.bytes), bytes);
    assert.equal(row.n, null);
    assert.equal((await exact.execute("SELECT 1e999")).rows[0][0], Infinity);
    await exact.execute("DELETE FROM js");
    exact.close();
}

async function errors(client) {
    await client.execute("INSERT INTO js (name) VALUES ('once')");
    await rejects(
        client.execute("INSERT INTO js (name) VALUES ('once')"),
        "SQLITE_CONSTRAINT_UNIQUE",
        /SQLite error: UNIQUE constraint failed: js\.name/,
    );
    await rejects(client.execute("SELEC 1"), "SQLITE_ERROR", /syntax error/);
    await rejects(client.execute("SELECT * FROM nosuch"), "SQLITE_ERROR", /no such table: nosuch/);
    await rejects(client.execute({ sql: "SELECT ?", args: [] }), "ARGS_INVALID", /no value is given/);
    await rejects(client.execute("SELECT 1; SELECT 2"), "SQL_MANY_STATEMENTS", /second statement/);
    await rejects(client.execute(" -- nothing"), "SQL_NO_STATEMENT", /no SQL statement/);
    await rejects(client.execute("VACUUM"), "NOT_SUPPORTED", /VACUUM/);
    await rejects(client.execute("COMMIT"), "SQLITE_ERROR", /no transaction is active/);
    await rejects(client.execute(`SELECT '${"x".repeat(10_000_000)}'`), "REQUEST_TOO_LARGE", /split it/);
    await rejects(client.execute(`SELECT '${"x".repeat(5_000_000)}'`), "SQLITE_TOOBIG", /split it/);
    await client.execute("DELETE FROM js");
}

async function batches(client) {
    const results = await client.batch(
        [
            { sql: "INSERT INTO js (id, name) VALUES (?, ?)", args: [1, "a"] },
            ["INSERT INTO js (id, name) VALUES (?, ?)", [2, "b"]],
            "SELECT count(*) AS n FROM js",
        ],
        "write",
    );
    assert.deepEqual(results.map((result) => result.rowsAffected), [1, 1, 0]);
    assert.equal(results[2].rows[0].n, 2);
    assert.equal(results[1].lastInsertRowid, 2n);
    // One that fails leaves nothing, and says which.
    const failing = client.batch(
        ["INSERT INTO js (id) VALUES (3)", "INSERT INTO js (id) VALUES (1)", "DELETE FROM js"],
        "write",
    );
    await assert.rejects(failing, (error) => {
        assert.equal(error.code, "SQLITE_CONSTRAINT_PRIMARYKEY", error.message);
        assert.equal(error.statementIndex, 1);
        return true;
    });
    assert.equal(await count(client), 2);
    const read = await client.batch(["SELECT 1", "SELECT count(*) FROM js"], "read");
    assert.equal(read[1].rows[0][0], 2);
    await rejects(client.batch(["DELETE FROM js"], "read"), "SQLITE_READONLY", /READONLY/);
    await client.batch(Array.from({ length: 2000 }, (_, at) => ({
        sql: "INSERT INTO js (number) VALUES (?)",
        args: [at],
    })));
    assert.equal(await count(client), 2002);
    await client.batch(["DELETE FROM js"]);
}

async function migrations(client) {
    await client.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)");
    await client.execute("CREATE TABLE child (parent INTEGER REFERENCES parent (id))");
    await rejects(
        client.execute("INSERT INTO child VALUES (7)"),
        "SQLITE_CONSTRAINT_FOREIGNKEY",
        /FOREIGN KEY/,
    );
    // Foreign keys are off in there, and as they were after it.
    await client.migrate([
        "INSERT INTO child VALUES (7)",
        "ALTER TABLE child ADD COLUMN more TEXT",
        "INSERT INTO parent VALUES (7)",
    ]);
    assert.equal((await client.execute("SELECT more FROM child")).rows.length, 1);
    await rejects(
        client.execute("INSERT INTO child VALUES (8, '')"),
        "SQLITE_CONSTRAINT_FOREIGNKEY",
        /FOREIGN KEY/,
    );
    await assert.rejects(client.migrate(["DROP TABLE child", "DROP TABLE nosuch"]), /nosuch/);
    assert.equal((await client.execute("SELECT * FROM child")).rows.length, 1);
    await client.batch(["DROP TABLE child", "DROP TABLE parent"], "write");
}

async function scripts(client) {
    await client.executeMultiple(`
        CREATE TABLE log (what TEXT);
        -- A trigger has semicolons of its own;
        CREATE TRIGGER told AFTER INSERT ON js BEGIN
            INSERT INTO log VALUES (new.name || ';');
            INSERT INTO log VALUES ('END;');
        END;
        INSERT INTO js (name) VALUES ('one;');
        INSERT INTO js (name) VALUES ('two')`);
    assert.equal((await client.execute("SELECT count(*) FROM log")).rows[0][0], 4);
    // Statement by statement: what was done before the one that fails stays, as with libSQL's own server.
    await rejects(
        client.executeMultiple("DELETE FROM log; INSERT INTO nosuch VALUES (1); DROP TABLE log"),
        "SQLITE_ERROR",
        /nosuch/,
    );
    assert.equal((await client.execute("SELECT count(*) FROM log")).rows[0][0], 0);
    await client.executeMultiple("BEGIN; INSERT INTO log VALUES ('x'); DROP TABLE log; COMMIT;");
    await rejects(client.execute("SELECT * FROM log"), "SQLITE_ERROR", /no such table/);
    await client.executeMultiple("DROP TRIGGER told; DELETE FROM js;");
}

async function transactions(client) {
    const kept = await client.transaction("write");
    await kept.execute("INSERT INTO js (id, name) VALUES (1, 'kept')");
    assert.equal((await kept.execute("SELECT name FROM js")).rows[0].name, "kept");
    assert.equal(await count(client), 0, "nobody else sees it");
    await kept.batch(["INSERT INTO js (id) VALUES (2)", "INSERT INTO js (id) VALUES (3)"]);
    // A statement that fails undoes itself alone.
    await assert.rejects(kept.execute("INSERT INTO js (id) VALUES (1)"), /UNIQUE/);
    await kept.commit();
    assert.equal(await count(client), 3);

    const undone = await client.transaction("deferred");
    await undone.execute("DELETE FROM js");
    await undone.rollback();
    assert.equal(await count(client), 3);

    const left = await client.transaction();
    await left.executeMultiple("DELETE FROM js; INSERT INTO js (id) VALUES (9)");
    left.close();
    assert.equal(await count(client), 3);

    const reading = await client.transaction("read");
    assert.equal((await reading.execute("SELECT count(*) FROM js")).rows[0][0], 3);
    await rejects(reading.execute("DELETE FROM js"), "SQLITE_READONLY", /READONLY/);
    await reading.commit();
    await rejects(kept.execute("SELECT 1"), "TRANSACTION_CLOSED", /closed/);
    await client.execute("DELETE FROM js");
}

async function credentials(url) {
    const wrong = createClient({ url, authToken: "quorate_wrong" });
    await assert.rejects(wrong.execute("SELECT 1"), (error) => /admin\.token|not those of a user/.test(error.message));
    wrong.close();
}

for (const url of [owner, other]) {
    const client = createClient({ url, authToken });
    client.url = url;
    for (const part of [statements, values, errors, batches, migrations, scripts, transactions]) {
        await client.execute(TABLE);
        try {
            await part(client);
        } catch (error) {
            console.error(`${part.name} at ${url}`);
            throw error;
        }
    }
    await credentials(url);
    await client.execute("DROP TABLE js");
    client.close();
}
console.log("all done");
